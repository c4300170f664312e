// Package pod is the agent in a pod: it starts Envoy, keeps it running and
// drains it, and answers what the pod's other parties ask.
//
// It consumes what injection put into the pod (environment, files, the
// projected token) and produces Envoy's bootstrap, its secrets, readiness,
// merged metrics, the application's rewritten probes and local DNS. Command
// pilotfish-agent drives it; nothing else does.
package pod
