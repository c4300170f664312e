// Package mesh tests pilotfish in a real Kubernetes cluster: installed by its
// own command, with sidecars that its webhook injects, under a steady load
// whose every answer is checked.
//
// The cluster is the one that KUBECONFIG names, whatever it is (LOAD_IMAGES is
// then a command that gives it docker archives, such as "kind load
// image-archive"); without it, package cluster makes one on this machine and
// removes it again. KEEP_CLUSTER=1 leaves it for a person to look at.
package mesh
