// Package kube watches a Kubernetes API server and applies what it sees to a
// discovery.Store: the kinds that services and workloads are made of, and
// Istio's configuration kinds as their CRDs come and go. It keeps no copy of
// the objects; the Store does. It consumes the API server's watch protocol by
// way of client-go's reflectors, and only the program's wiring may import it.
package kube
