// Package inject adds the mesh's sidecar to pods, and gives gateway pods their
// Envoy: the mutating webhook, and the same offline for YAML.
//
// It consumes the settings of a config.Mesh (MeshConfig, ProxyConfigs, the
// ConfigMap istio-sidecar-injector) and pods, and produces pods and JSON
// patches. Templates, annotations and labels are Istio's, so that what was
// written for Istio works. Pods are handled as JSON values, not as Go types: a
// field that this program's Kubernetes types do not know yet stays as it is.
// Translation must not import it.
package inject
