package inject

import (
	"slices"

	"istio.io/api/annotation"
	"istio.io/api/label"
	"k8s.io/apimachinery/pkg/labels"
)

// systemNamespaces are Kubernetes' own (and kind's): what runs there must
// work before any mesh does.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// skip says why a pod gets nothing; "" if it is to be injected. The
// namespace's labels have been looked at before: they are selectors of the
// MutatingWebhookConfiguration.
func (in *Injector) skip(r *Request) string {
	if network, _ := spec(r.Pod)["hostNetwork"].(bool); network {
		return "it uses the host's network, whose traffic must not be redirected"
	}
	if slices.Contains(systemNamespaces, r.Namespace) {
		return "namespace " + r.Namespace + " is Kubernetes' own"
	}
	set := podLabels(r.Pod)
	if r.Namespace == in.mesh.GetRootNamespace() && set["app"] == "istiod" {
		return "it is the control plane"
	}
	switch wish(r.Pod, set) {
	case "true":
		return ""
	case "false":
		return label.SidecarInject.Name + " is false"
	}
	matches := func(s labels.Selector) bool { return s.Matches(set) }
	switch {
	case slices.ContainsFunc(in.settings.never, matches):
		return "its labels match neverInjectSelector"
	case slices.ContainsFunc(in.settings.always, matches):
		return ""
	case !in.settings.byDefault:
		return "the policy is disabled, and the pod has no label " + label.SidecarInject.Name
	}
	return ""
}

// wish is what the pod itself asks for: "true", "false", or "" for nothing.
// The label takes precedence over the older annotation.
func wish(pod Object, set labels.Set) string {
	v, ok := set[label.SidecarInject.Name]
	if !ok {
		v, _ = annotationOf(pod, annotation.SidecarInject.Name)
	}
	if v == "true" || v == "false" {
		return v
	}
	return ""
}

func annotationOf(pod Object, name string) (string, bool) {
	meta, _ := pod["metadata"].(Object)
	all, _ := meta["annotations"].(Object)
	v, ok := all[name].(string)
	return v, ok
}

func podLabels(pod Object) labels.Set {
	meta, _ := pod["metadata"].(Object)
	all, _ := meta["labels"].(Object)
	out := make(labels.Set, len(all))
	for k, v := range all {
		out[k], _ = v.(string)
	}
	return out
}
