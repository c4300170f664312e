// Package registration keeps the WorkloadEntries of proxies that run outside of
// Kubernetes: it makes the entry of a proxy that names a WorkloadGroup, says in
// it which control plane the proxy is connected to and how the workload's health
// is, and removes it when the proxy has gone.
//
// It is driven by the streams of package snapshot and writes to the API server,
// in the form that Istio's control plane does, so that replicas of both can take
// proxies over from each other. Package serve runs it.
package registration
