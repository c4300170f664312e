package discovery

import (
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// marshaler is a Kubernetes API type; its encoding is deterministic.
type marshaler interface{ Marshal() ([]byte, error) }

// identity is an object's config.Meta.Hash: its content, its API version and,
// for an object from a file, where it stands. Generated resources and problems
// name all of them, so that what is remembered under a Hash must not outlive a
// move within the file. Encoded resources hold the line of the document alone:
// moving a field makes them anew, but not different.
func identity(o *Object) config.Hash {
	m := &o.Meta
	h := config.NewHasher().Hash(contentHash(o)).Str(m.Version)
	if m.File == "" {
		return h.Sum()
	}
	h.Str(m.File).Uint(uint64(m.Line))
	for _, field := range slices.Sorted(maps.Keys(m.Lines)) {
		h.Str(field).Uint(uint64(m.Lines[field]))
	}
	return h.Sum()
}

// identities are those of all objects that change, found by all processors if
// there are many.
func identities(changes []Change) []config.Hash {
	const each = 64 // for one of them at a time
	out := make([]config.Hash, len(changes))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < len(changes); from += each {
		some := func() error {
			for i := from; i < min(from+each, len(changes)); i++ {
				if !changes[i].Deleted {
					out[i] = identity(&changes[i].Object)
				}
			}
			return nil
		}
		if len(changes) <= each {
			_ = some()
		} else {
			g.Go(some)
		}
	}
	_ = g.Wait() // nothing fails
	return out
}

// contentHash identifies what of an object the mesh can depend on. Heartbeats, resource versions and bookkeeping that
// controllers write into status are no part of it.
func contentHash(o *Object) config.Hash {
	m := &o.Meta
	h := config.NewHasher().Str(m.Group, m.Kind, m.Namespace, m.Name).Map(m.Labels).Map(m.Annotations).Uint(uint64(m.StandsIn))
	if !m.Created.IsZero() {
		h.Uint(uint64(m.Created.UnixNano()))
	}
	switch body := o.Body.(type) {
	case proto.Message:
		h.Proto(body)
		h.Bool(o.Unhealthy)
		if o.Status != nil {
			for _, a := range o.Status.GetAddresses() {
				h.Str(a.GetHost(), a.GetValue())
			}
		}
	case *corev1.Service:
		hashTypes(h, &body.Spec, &body.Status.LoadBalancer)
	case *discoveryv1.EndpointSlice:
		h.Str(string(body.AddressType))
		for i := range body.Ports {
			hashTypes(h, &body.Ports[i])
		}
		for i := range body.Endpoints {
			hashTypes(h, &body.Endpoints[i])
		}
	case *corev1.Pod:
		hashPod(h, body)
	case *corev1.Secret:
		h.Str(string(body.Type))
		hashData(h, body.Data)
		h.Map(body.StringData)
	case *corev1.ConfigMap:
		h.Map(body.Data)
	case *corev1.Node:
		h.Str(body.Status.NodeInfo.KubeletVersion) // and its labels
	case *networkingv1.Ingress:
		hashTypes(h, &body.Spec)
	case *networkingv1.IngressClass:
		h.Str(body.Spec.Controller)
	case *gatewayapi.ReferenceGrant:
		hashGrant(h, &body.Spec)
	case *corev1.Namespace:
		// Its labels are all that counts.
	default:
		hashTemplate(h, body)
	}
	return h.Sum()
}

func hashTypes(h config.Hasher, parts ...marshaler) {
	for _, p := range parts {
		b, err := p.Marshal()
		if err != nil {
			b = []byte(err.Error())
		}
		h.Bytes(b)
	}
}

func hashData(h config.Hasher, data map[string][]byte) {
	text := make(map[string]string, len(data))
	for k, v := range data {
		text[k] = string(v)
	}
	h.Map(text)
}

// hashPod covers what workloadOfPod reads.
func hashPod(h config.Hasher, p *corev1.Pod) {
	h.Str(string(p.Status.Phase), p.Status.PodIP, p.Spec.ServiceAccountName, p.Spec.NodeName, p.Spec.Hostname, p.Spec.Subdomain)
	h.Bool(p.Spec.HostNetwork).Bool(p.DeletionTimestamp != nil).Bool(podReady(p))
	h.Uint(uint64(len(p.Status.PodIPs)))
	for _, ip := range p.Status.PodIPs {
		h.Str(ip.IP)
	}
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			h.Str(o.APIVersion, o.Kind, o.Name)
		}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		h.Uint(uint64(len(list)))
		for i := range list {
			h.Uint(uint64(len(list[i].Ports)))
			for _, port := range list[i].Ports {
				h.Str(port.Name, string(port.Protocol)).Uint(uint64(port.ContainerPort))
			}
		}
	}
}

// hashTemplate covers the kinds that hold pod templates. They reach the mesh
// as the pods that are made of them.
func hashTemplate(h config.Hasher, body any) {
	switch b := body.(type) {
	case *appsv1.Deployment:
		hashTypes(h, &b.Spec)
	case *appsv1.StatefulSet:
		hashTypes(h, &b.Spec)
	case *appsv1.DaemonSet:
		hashTypes(h, &b.Spec)
	case *appsv1.ReplicaSet:
		hashTypes(h, &b.Spec)
	case *batchv1.Job:
		hashTypes(h, &b.Spec)
	case *batchv1.CronJob:
		hashTypes(h, &b.Spec)
	}
}
