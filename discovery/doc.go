// Package discovery turns what sources see into published Meshes.
//
// A Source (a Kubernetes API server, a folder of YAML) applies changes of raw
// objects to the Store; the Store derives services, endpoints and workloads
// from them, keeps the last good version of what is broken, and publishes one
// immutable config.Mesh for each step. It consumes raw Kubernetes and Istio
// objects and produces config.Mesh for package translate and snapshot, which
// it must not import.
package discovery
