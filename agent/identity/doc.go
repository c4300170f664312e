// Package identity gives a workload its certificate: it makes the key, has the
// certificate signed and renewed, and serves both to Envoy over SDS.
//
// It consumes a Signer (the control plane, or an authority in this process)
// or files, and produces the secrets "default" and "ROOTCA". Keys live in
// memory only, unless the user asked for files. Packages agent/pod and up
// drive it.
package identity
