package file

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// kubeKind is a Kubernetes kind that a folder may hold and the mesh is made
// of.
type kubeKind struct {
	group, kind   string
	versions      []string
	clusterScoped bool
	new           func() any
}

var v1 = []string{"v1"}

var kubeKinds = []kubeKind{
	{"", "ConfigMap", v1, false, func() any { return new(corev1.ConfigMap) }},
	{"", "Endpoints", v1, false, func() any { return new(corev1.Endpoints) }}, //nolint:staticcheck // deprecated, and still written
	{"", "Namespace", v1, true, func() any { return new(corev1.Namespace) }},
	{"", "Node", v1, true, func() any { return new(corev1.Node) }},
	{"", "Pod", v1, false, func() any { return new(corev1.Pod) }},
	{"", "ReplicationController", v1, false, func() any { return new(corev1.ReplicationController) }},
	{"", "Secret", v1, false, func() any { return new(corev1.Secret) }},
	{"", "Service", v1, false, func() any { return new(corev1.Service) }},
	{"apps", "DaemonSet", v1, false, func() any { return new(appsv1.DaemonSet) }},
	{"apps", "Deployment", v1, false, func() any { return new(appsv1.Deployment) }},
	{"apps", "ReplicaSet", v1, false, func() any { return new(appsv1.ReplicaSet) }},
	{"apps", "StatefulSet", v1, false, func() any { return new(appsv1.StatefulSet) }},
	{"batch", "CronJob", v1, false, func() any { return new(batchv1.CronJob) }},
	{"batch", "Job", v1, false, func() any { return new(batchv1.Job) }},
	{"discovery.k8s.io", "EndpointSlice", v1, false, func() any { return new(discoveryv1.EndpointSlice) }},
	{discovery.GatewayAPIGroup, "ReferenceGrant", discovery.ReferenceGrantVersions(), false, func() any { return new(gatewayapi.ReferenceGrant) }},
	{"networking.k8s.io", "Ingress", v1, false, func() any { return new(networkingv1.Ingress) }},
	{"networking.k8s.io", "IngressClass", v1, true, func() any { return new(networkingv1.IngressClass) }},
}

func kubeKindOf(group, kind string) (kubeKind, bool) {
	i := slices.IndexFunc(kubeKinds, func(k kubeKind) bool { return k.group == group && k.kind == kind })
	if i < 0 {
		return kubeKind{}, false
	}
	return kubeKinds[i], true
}

var istioKinds = discovery.Kinds()

func istioKindOf(group, kind string) (discovery.Kind, bool) {
	i := slices.IndexFunc(istioKinds, func(k discovery.Kind) bool { return k.Group == group && k.Kind == kind })
	if i < 0 {
		return discovery.Kind{}, false
	}
	return istioKinds[i], true
}

// knownKinds are the kinds of a group that we could name instead of a
// mistyped one.
func knownKinds(group string) []string {
	var out []string
	for _, k := range istioKinds {
		if k.Group == group {
			out = append(out, k.Kind)
		}
	}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if gvk.Group == group {
			out = append(out, gvk.Kind)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// knownGroups are the groups that we read kinds of.
func knownGroups() []string {
	var out []string
	for _, k := range istioKinds {
		out = append(out, k.Group)
	}
	for _, k := range kubeKinds {
		out = append(out, k.group)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
