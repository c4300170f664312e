// Package agent is what runs beside an application: Envoy's bootstrap and the
// redirection of a pod's traffic into it.
//
// It consumes a description of one workload (Node) and produces Envoy's
// bootstrap configuration and kernel rules in one network namespace. Packages
// cmd/pilotfish-agent and up drive it; it must not import translation.
package agent
