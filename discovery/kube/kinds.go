package kube

import (
	"slices"
	"strings"

	"istio.io/api/label"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// coreKind is a kind of Kubernetes' own that a mesh is made of.
type coreKind struct {
	key     config.Key // group and kind
	version schema.GroupVersion
	plural  string
	fields  string // the field selector that leaves out what is of no use
	read    reader
}

// coreKinds lists the kinds and what of them is kept: a mesh has ten thousands
// of pods, and most of a pod is of no interest to it.
func coreKinds() []coreKind {
	v1 := corev1.SchemeGroupVersion
	v1slices := discoveryv1.SchemeGroupVersion
	v1net := networkingv1.SchemeGroupVersion
	v1admission := admissionv1.SchemeGroupVersion
	return []coreKind{
		{config.Key{Kind: "Namespace"}, v1, "namespaces", "", keep(namespace)},
		{config.Key{Kind: "Node"}, v1, "nodes", "", keep(node)},
		{config.Key{Kind: "Service"}, v1, "services", "", keep(service)},
		{config.Key{Group: v1slices.Group, Kind: "EndpointSlice"}, v1slices, "endpointslices", "", keep(endpointSlice)},
		{config.Key{Group: v1net.Group, Kind: "Ingress"}, v1net, "ingresses", "", keep(ingress)},
		{config.Key{Group: v1net.Group, Kind: "IngressClass"}, v1net, "ingressclasses", "", keep(ingressClass)},
		{config.Key{Kind: "Pod"}, v1, "pods", unfinished, keep(pod)},
		{config.Key{Kind: "Secret"}, v1, "secrets", credentials, keep(secret)},
		{config.Key{Kind: "ConfigMap"}, v1, "configmaps", noRoots, keep(configMap)},
		{config.Key{Group: v1admission.Group, Kind: "MutatingWebhookConfiguration"}, v1admission, "mutatingwebhookconfigurations", "", keep(tag)},
	}
}

func coreVersions() []schema.GroupVersion {
	return []schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion,
		admissionv1.SchemeGroupVersion}
}

// unfinished selects pods that may still serve.
const unfinished = "status.phase!=Succeeded,status.phase!=Failed"

// credentials selects the types of Secrets that a Gateway or a DestinationRule
// can name, kubernetes.io/tls, Opaque and those that users invent, and that a
// WasmPlugin can, kubernetes.io/dockerconfigjson.
const credentials = "type!=kubernetes.io/service-account-token,type!=bootstrap.kubernetes.io/token," +
	"type!=kubernetes.io/dockercfg," +
	"type!=kubernetes.io/basic-auth,type!=kubernetes.io/ssh-auth," +
	"type!=helm.sh/release.v1,type!=istio.io/ca-root"

// noRoots leaves out the ConfigMaps that every namespace has, and the one in
// which replicas report.
const noRoots = "metadata.name!=kube-root-ca.crt,metadata.name!=istio-ca-root-cert,metadata.name!=pilotfish-distribution"

// meshConfig is the ConfigMap that is kept whole, and those whose names begin
// with its and a dash: the settings of revisions, and of injection.
var meshConfig = types.NamespacedName{Namespace: "istio-system", Name: "istio"}

// credentialKeys are the keys of a Secret's data that such a Secret may have
// (the API's documentation of ServerTLSSettings.credentialName and
// WasmPlugin.imagePullSecret). A ConfigMap can
// hold the CA and its revocation list (caCertCredentialName). Other data is not
// kept.
var credentialKeys = []string{
	"tls.crt", "tls.key", "tls.ocsp-staple", "ca.crt", "ca.crl",
	"cert", "key", "cacert", "crl",
	".dockerconfigjson",
}

// object is a pointer to a Kubernetes type.
type object interface {
	comparable
	runtime.Object
	metav1.Object
}

// keep makes a reader of a function that returns what is to be kept of an
// object, which it may change, or nil for nothing. Its annotations, if it drops some, are those of
// the Meta as well.
func keep[T object](kept func(T) T) reader {
	return func(m config.Meta, o runtime.Object) (*discovery.Object, []config.Problem) {
		typed, ok := o.(T)
		if !ok {
			return nil, []config.Problem{unexpectedType(&m, o)}
		}
		typed.SetManagedFields(nil)
		typed.SetAnnotations(m.Annotations)
		var none T
		if typed = kept(typed); typed == none {
			return nil, nil
		}
		m.Annotations = typed.GetAnnotations()
		return &discovery.Object{Meta: m, Body: typed}, nil
	}
}

// newMeta is what every object's Meta holds. kubectl's copy of the object in
// an annotation is left out: it is as large as the object, and a Secret's has
// its data.
func newMeta(key config.Key, o metav1.Object) config.Meta {
	return config.Meta{
		Key:             key,
		Version:         "v1",
		Labels:          o.GetLabels(),
		Annotations:     without(o.GetAnnotations(), func(k string) bool { return k == corev1.LastAppliedConfigAnnotation }),
		Created:         o.GetCreationTimestamp().Time,
		Generation:      o.GetGeneration(),
		ResourceVersion: o.GetResourceVersion(),
	}
}

// without drops entries of a map, and the map if none are left.
func without(m map[string]string, drop func(key string) bool) map[string]string {
	for k := range m {
		if drop(k) {
			delete(m, k)
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

func notIstio(annotation string) bool { return !strings.Contains(annotation, "istio.io/") }

func namespace(n *corev1.Namespace) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: n.Name, Labels: n.Labels, Annotations: without(n.Annotations, notIstio),
	}}
}

// node keeps what tells where it is and how to reach it. Kubelets write the
// rest every few minutes.
func node(n *corev1.Node) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels},
		Status: corev1.NodeStatus{
			Addresses: n.Status.Addresses,
			NodeInfo:  corev1.NodeSystemInfo{KubeletVersion: n.Status.NodeInfo.KubeletVersion},
		},
	}
}

func service(s *corev1.Service) *corev1.Service {
	s.Status.Conditions = nil
	return s
}

// endpointSlice leaves out what changes without a change of the endpoints.
func ingress(i *networkingv1.Ingress) *networkingv1.Ingress {
	i.Status = networkingv1.IngressStatus{}
	return i
}

func ingressClass(c *networkingv1.IngressClass) *networkingv1.IngressClass { return c }

func endpointSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.Annotations = without(s.Annotations, func(k string) bool { return k == corev1.EndpointsLastChangeTriggerTime })
	for i := range s.Endpoints {
		s.Endpoints[i].Hints = nil
		s.Endpoints[i].DeprecatedTopology = nil
	}
	return s
}

// tag keeps where a revision's tag leads.
func tag(m *admissionv1.MutatingWebhookConfiguration) *admissionv1.MutatingWebhookConfiguration {
	if m.Labels[label.IoIstioTag.Name] == "" {
		return nil
	}
	return &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: m.Labels}}
}

func configMap(c *corev1.ConfigMap) *corev1.ConfigMap {
	c.BinaryData = nil
	if c.Namespace == meshConfig.Namespace && (c.Name == meshConfig.Name || strings.HasPrefix(c.Name, meshConfig.Name+"-")) {
		return c
	}
	c.Data = without(c.Data, func(k string) bool { return !slices.Contains(credentialKeys, k) })
	if c.Data == nil {
		return nil
	}
	return c
}

func secret(s *corev1.Secret) *corev1.Secret {
	if s.Namespace == meshConfig.Namespace && (s.Name == "cacerts" || s.Name == "istio-ca-secret") {
		return nil // the mesh's own signing key, under whatever data keys
	}
	kept := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace, Labels: s.Labels, Annotations: s.Annotations},
		Type:       s.Type,
	}
	for _, k := range credentialKeys {
		if v, ok := s.Data[k]; ok {
			if kept.Data == nil {
				kept.Data = map[string][]byte{}
			}
			kept.Data[k] = v
		}
	}
	return kept
}

// pod keeps who a pod is, where, and whether it serves.
func pod(p *corev1.Pod) *corev1.Pod {
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, Labels: p.Labels,
			Annotations:       without(p.Annotations, notIstio),
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp,
		},
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName,
			HostNetwork: p.Spec.HostNetwork, Hostname: p.Spec.Hostname, Subdomain: p.Spec.Subdomain,
			InitContainers: containers(p.Spec.InitContainers), Containers: containers(p.Spec.Containers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			kept.OwnerReferences = append(kept.OwnerReferences, o)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			kept.Status.Conditions = append(kept.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
		}
	}
	return kept
}

// containers keeps those with ports: only these can be named by a Service.
func containers(all []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for _, c := range all {
		if len(c.Ports) > 0 {
			kept = append(kept, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
	}
	return kept
}
