// Package stock tests the control plane with what other projects made for
// Istio's: Istio's own agent beside a stock Envoy, as a pod runs it.
package stock
