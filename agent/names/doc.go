// Package names answers a pod's DNS questions: those about the mesh's services
// from the control plane's name table, all others by asking the pod's own
// servers.
//
// It consumes name tables (NDS: istio.networking.nds.v1.NameTable) and a
// resolv.conf, and produces DNS over UDP and TCP. Package agent/pod drives it.
package names
