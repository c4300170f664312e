package discovery

import (
	"cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// slicesIndex holds the EndpointSlices by service, and which of them name a
// pod, an address without a pod, or a node.
type slicesIndex struct {
	byService map[name]map[name]*discoveryv1.EndpointSlice
	serviceOf map[name]name
	byPod     multimap[name, name]
	byAddress multimap[string, name]
	byNode    multimap[string, name]
}

func newSlicesIndex() slicesIndex {
	return slicesIndex{
		byService: map[name]map[name]*discoveryv1.EndpointSlice{}, serviceOf: map[name]name{},
		byPod: multimap[name, name]{}, byAddress: multimap[string, name]{}, byNode: multimap[string, name]{},
	}
}

func (d *derivation) sliceChange(n name, before, after *Object) {
	if before != nil {
		if s, ok := before.Body.(*discoveryv1.EndpointSlice); ok {
			d.staleEndpointsOf(d.slices.remove(n, s))
		}
	}
	if after != nil {
		if s, ok := after.Body.(*discoveryv1.EndpointSlice); ok {
			d.staleEndpointsOf(d.slices.put(n, s))
		}
	}
}

func (d *derivation) staleEndpointsOf(service name) {
	if service.name != "" {
		d.stale.endpoints.add(d.hostnameOf(service))
	}
}

func (x *slicesIndex) put(n name, s *discoveryv1.EndpointSlice) (service name) {
	service = name{n.ns, s.Labels[discoveryv1.LabelServiceName]}
	if service.name == "" {
		return service
	}
	of := x.byService[service]
	if of == nil {
		of = map[name]*discoveryv1.EndpointSlice{}
		x.byService[service] = of
	}
	of[n], x.serviceOf[n] = s, service
	x.references(n, s, multimap[name, name].add, multimap[string, name].add)
	return service
}

func (x *slicesIndex) remove(n name, s *discoveryv1.EndpointSlice) (service name) {
	service, ok := x.serviceOf[n]
	if !ok {
		return service
	}
	delete(x.serviceOf, n)
	delete(x.byService[service], n)
	if len(x.byService[service]) == 0 {
		delete(x.byService, service)
	}
	x.references(n, s, multimap[name, name].remove, multimap[string, name].remove)
	return service
}

func (x *slicesIndex) references(
	n name, s *discoveryv1.EndpointSlice,
	pod func(multimap[name, name], name, name), text func(multimap[string, name], string, name),
) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if p, ok := podOf(n.ns, e); ok {
			pod(x.byPod, p, n)
		} else {
			for _, a := range e.Addresses {
				text(x.byAddress, a, n)
			}
		}
		if e.NodeName != nil {
			text(x.byNode, *e.NodeName, n)
		}
	}
}

// podOf is the pod that an endpoint says it is.
func podOf(ns string, e *discoveryv1.Endpoint) (name, bool) {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || e.TargetRef.Name == "" {
		return name{}, false
	}
	return name{cmp.Or(e.TargetRef.Namespace, ns), e.TargetRef.Name}, true
}

func (d *derivation) nodeChange(node string, after *Object) {
	d.kubelets.change(node, after)
	var next config.Locality
	if after != nil {
		next = nodeLocality(after.Meta.Labels)
	}
	if d.nodes[node] == next {
		return
	}
	if next == (config.Locality{}) {
		delete(d.nodes, node)
	} else {
		d.nodes[node] = next
	}
	for p := range d.pods.byNode[node] {
		d.stale.pods.add(p)
	}
	for s := range d.slices.byNode[node] {
		d.staleEndpointsOf(d.slices.serviceOf[s])
	}
}

func nodeLocality(labels map[string]string) config.Locality {
	return config.Locality{
		Region:  cmp.Or(labels[corev1.LabelTopologyRegion], labels[corev1.LabelFailureDomainBetaRegion]),
		Zone:    cmp.Or(labels[corev1.LabelTopologyZone], labels[corev1.LabelFailureDomainBetaZone]),
		Subzone: labels[subzoneLabel],
	}
}
