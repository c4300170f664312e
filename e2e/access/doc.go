// Package access holds tests of who may call whom: policies with requests that
// real Envoys decide about, beside the decision that the policy's text means.
package access
