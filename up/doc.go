// Package up runs a mesh on one machine: for each workload that a folder of
// YAML describes an application that says who it is and a real Envoy beside
// it, and an Envoy for each gateway, configured by the control plane in this
// process.
//
// As root each pod has a network namespace with a pod's redirection; without,
// all pods share the loopback range. It consumes a folder and produces
// running processes, which end with this one however it ends, and addresses
// to talk to them. Only commands and tests may import it.
package up
