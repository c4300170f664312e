package discovery

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// sliceEndpoints adds the endpoints of a Kubernetes Service: those of its
// EndpointSlices, or the alias of an ExternalName Service.
func (d *derivation) sliceEndpoints(all endpointList, c *claim) {
	s := c.service
	if s.ExternalName != "" {
		for _, p := range s.Ports {
			port := p.Number
			if p.TargetPort != 0 {
				port = p.TargetPort
			}
			all.add(p.Name, candidate{Endpoint: config.Endpoint{Address: s.ExternalName, Port: port, Namespace: s.Namespace}})
		}
		return
	}
	of := d.slices.byService[name{s.Namespace, s.Name}]
	for _, n := range slices.SortedFunc(maps.Keys(of), func(a, b name) int { return cmp.Compare(a.name, b.name) }) {
		slice := of[n]
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			d.sliceEndpoint(all, s, slice, &slice.Endpoints[i])
		}
	}
}

func (d *derivation) sliceEndpoint(all endpointList, s *config.Service, slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	health, ok := sliceHealth(e.Conditions)
	if !ok {
		return
	}
	if s.PublishNotReady && health == config.Unhealthy {
		health = config.Healthy
	}
	if p, ok := podOf(slice.Namespace, e); ok && d.pods.made[p] == nil {
		// The pod has not been seen yet, or has ended. Without its labels
		// clients would speak plaintext to it, or to no subset.
		return
	}
	for _, address := range e.Addresses {
		c := d.sliceCandidate(slice.Namespace, e, address)
		c.Health, c.Address = health, address
		if e.Hostname != nil {
			c.Hostname = *e.Hostname
		}
		for _, p := range slice.Ports {
			if p.Port == nil {
				continue // all ports, which no Service can mean
			}
			c.Port = uint32(*p.Port)
			port := ""
			if p.Name != nil {
				port = *p.Name
			}
			all.add(port, c)
		}
	}
}

// sliceCandidate is what is known of the workload behind a slice's address.
func (d *derivation) sliceCandidate(ns string, e *discoveryv1.Endpoint, address string) candidate {
	i := d.podBehind(ns, e, address)
	if i != nil {
		c := candidate{Endpoint: i.endpoint}
		if len(i.IPs) > 1 && slices.Contains(i.IPs, address) {
			c.addresses = i.IPs
		}
		return c
	}
	w := &config.Workload{Meta: config.Meta{Key: config.Key{Namespace: ns}}, Network: d.network(nil)}
	if e.NodeName != nil {
		w.Node, w.Locality = *e.NodeName, d.nodes[*e.NodeName]
	}
	if e.Zone != nil && w.Locality.Zone == "" {
		w.Locality.Zone = *e.Zone
	}
	return candidate{Endpoint: commonEndpoint(w, nil)}
}

// podBehind finds the pod of an endpoint: the one that it names, or the only
// one of its namespace with that address.
func (d *derivation) podBehind(ns string, e *discoveryv1.Endpoint, address string) *instance {
	if p, ok := podOf(ns, e); ok {
		return d.pods.made[p]
	}
	for n := range d.pods.byAddress[address] {
		if n.ns == ns && len(d.pods.byAddress[address]) == 1 {
			return d.pods.made[n]
		}
	}
	return nil
}

// sliceHealth reads the conditions as the EndpointSlice API defines them: an
// unset "ready" means ready, an unset "serving" the same as ready, an unset
// "terminating" no. An endpoint that terminates is ready only if its Service
// publishes such; one that no longer serves is none.
func sliceHealth(c discoveryv1.EndpointConditions) (config.Health, bool) {
	ready := c.Ready == nil || *c.Ready
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	terminating := c.Terminating != nil && *c.Terminating
	switch {
	case ready:
		return config.Healthy, true
	case !terminating:
		return config.Unhealthy, true
	}
	return config.Draining, serving
}

// selectedEntries adds the WorkloadEntries that a Kubernetes Service selects:
// they stand beside its pods.
func (d *derivation) selectedEntries(all endpointList, c *claim) {
	svc, ok := bodyOf[*corev1.Service](c.kube)
	if !ok || len(svc.Spec.Selector) == 0 || c.service.External {
		return
	}
	for n := range d.pods.entriesIn[c.service.Namespace] {
		i := d.pods.entries[n]
		if i == nil || !i.Ready || len(i.IPs) == 0 || !config.Selects(svc.Spec.Selector, i.Labels) || !isIP(i.IPs[0]) {
			continue
		}
		for _, p := range c.service.Ports {
			port, ok := entryPortOf(i, p)
			if !ok {
				continue
			}
			e := candidate{Endpoint: i.endpoint}
			e.Address, e.Port = i.IPs[0], port
			all.add(p.Name, e)
		}
	}
}

// entryPortOf is where a WorkloadEntry serves a Service's port: where its own
// ports say, or at the target port. A named target port must be among its
// ports.
func entryPortOf(i *instance, p config.ServicePort) (uint32, bool) {
	if port := i.Ports[p.Name]; port != 0 {
		return port, true
	}
	switch {
	case p.TargetPort != 0:
		return p.TargetPort, true
	case p.TargetPortName != "":
		port, ok := i.Ports[p.TargetPortName]
		return port, ok
	}
	return p.Number, true
}
