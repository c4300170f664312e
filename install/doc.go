// Package install puts pilotfish into a cluster, takes it out again, and tells
// whether it works there. It consumes the charts of package manifests and a
// kubeconfig, wraps Helm's library, so that helm sees the same releases, and
// reports progress in words. The commands use it; nothing else may import it.
package install
