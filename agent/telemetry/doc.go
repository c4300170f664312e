// Package telemetry makes Istio's standard metrics of what a stock Envoy logs.
//
// It consumes Envoy's access log stream (ALS), in the form that translation
// configures for proxies that say that an agent takes it, and produces metrics
// in Prometheus' text format. Package agent/pod drives it.
package telemetry
