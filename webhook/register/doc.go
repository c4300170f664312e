// Package register keeps the API server's webhook configurations right: the
// certificate authority that the webhooks are called with, and that invalid
// configuration is refused also when no control plane answers, once that has
// been seen to work.
//
// It consumes the trust bundle and the configurations of one revision, and
// produces patches of them. Only the leader runs it.
package register
