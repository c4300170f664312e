package translate

import (
	"slices"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// EgressListener is one egress listener of a Sidecar.
type EgressListener struct {
	Spec *networking.IstioEgressListener
}

func (l *EgressListener) addTo(h config.Hasher) { h.Proto(l.Spec) }

func (l *EgressListener) spec() *networking.IstioEgressListener {
	if l == nil {
		return nil
	}
	return l.Spec
}

func (l *EgressListener) port() *networking.SidecarPort { return l.spec().GetPort() }

// onPort is the port that imported services must have: that of the listener,
// unless it is a socket without one or speaks for every port.
func (l *EgressListener) onPort() (uint32, bool) {
	p := l.port()
	return p.GetNumber(), p.GetNumber() != 0 && config.ParseProtocol(p.GetProtocol()) != config.ProtocolHTTPProxy
}

// OutboundPolicy is what happens to destinations that no service names: the
// Sidecar's word, or else the mesh's.
type OutboundPolicy struct {
	Policy *networking.OutboundTrafficPolicy
	// DynamicDNS: requests to unknown hosts go where the proxy itself resolves
	// the host to (MeshConfig's ALLOW_ANY_DYNAMIC_DNS).
	DynamicDNS bool
}

// AllowsAny reports whether connections to unknown destinations pass.
func (p OutboundPolicy) AllowsAny() bool {
	return p.Policy.GetMode() != networking.OutboundTrafficPolicy_REGISTRY_ONLY
}

func (p OutboundPolicy) addTo(h config.Hasher) {
	h.Bool(p.DynamicDNS).Bool(p.Policy != nil)
	if p.Policy != nil {
		h.Proto(p.Policy)
	}
}

// gatherSidecar finds the Sidecar that applies to the scope's proxies, and
// for the outbound side what its egress listeners let in.
func (ix *Index) gatherSidecar(s *Scope) {
	s.Sidecar = ix.sidecarFor(s.Class.Namespace, s.Labels)
	s.OutboundPolicy = meshOutboundPolicy(ix.mesh.Settings.Mesh.GetOutboundTrafficPolicy().GetMode())
	if s.Sidecar == nil {
		return
	}
	if p := s.Sidecar.Spec.GetOutboundTrafficPolicy(); p != nil {
		s.OutboundPolicy = OutboundPolicy{Policy: p}
	}
	if s.Class.Side == Outbound {
		for i, l := range s.Sidecar.Spec.GetEgress() {
			s.Egress = append(s.Egress, ix.egressBehind(s, i, l))
		}
	}
}

func meshOutboundPolicy(mode meshconfig.MeshConfig_OutboundTrafficPolicy_Mode) OutboundPolicy {
	if mode == meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY {
		return OutboundPolicy{Policy: &networking.OutboundTrafficPolicy{Mode: networking.OutboundTrafficPolicy_REGISTRY_ONLY}}
	}
	return OutboundPolicy{
		Policy:     &networking.OutboundTrafficPolicy{Mode: networking.OutboundTrafficPolicy_ALLOW_ANY},
		DynamicDNS: mode == meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS,
	}
}

// sidecarFor is the Sidecar that applies to workloads of a namespace: one that
// selects them, the namespace's own, or that of the root namespace. The
// oldest counts.
func (ix *Index) sidecarFor(namespace string, labels map[string]string) *config.SidecarScope {
	own := sidecarsInOrder(ix.mesh.Sidecars.In(namespace))
	for _, sc := range own {
		if sc.Spec.GetWorkloadSelector() != nil && config.Selects(sc.Spec.GetWorkloadSelector().GetLabels(), labels) {
			return sc
		}
	}
	for _, list := range [][]*config.SidecarScope{own, sidecarsInOrder(ix.mesh.Sidecars.In(ix.mesh.RootNamespace()))} {
		for _, sc := range list {
			if sc.Spec.GetWorkloadSelector() == nil {
				return sc
			}
		}
	}
	return nil
}

func sidecarsInOrder(in []*config.SidecarScope) []*config.SidecarScope {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b *config.SidecarScope) int { return precedence(&a.Meta, &b.Meta) })
	return out
}

// egressBehind is the outbound view behind an egress listener, the one before as
// long as nothing that it reads has changed.
func (ix *Index) egressBehind(s *Scope, i int, spec *networking.IstioEgressListener) *Egress {
	f := newImportFilter(spec.GetHosts(), s.Class.Namespace)
	namespaces, all := f.namespaces()
	if all {
		return ix.egressOf(s, &EgressListener{Spec: spec}, f)
	}
	inputs := ix.egressInputs(s.Class.Namespace, namespaces)
	key := egressKey{s.Sidecar, i, s.Class.Namespace, s.Class.Labels}
	e := regather(ix.gathered, key, inputs, func() *Egress { return ix.egressOf(s, &EgressListener{Spec: spec}, f) })
	if e.leadsOut() {
		return ix.egressOf(s, &EgressListener{Spec: spec}, f)
	}
	return e
}

// leadsOut reports whether VirtualServices lead to what is not among the imported
// services, so that the view depends on others.
func (e *Egress) leadsOut() bool {
	if len(e.Destinations) > 0 {
		return true
	}
	for _, vs := range e.VirtualServices {
		for _, host := range vs.Destinations {
			if e.hosts.services[host] == nil {
				return true
			}
		}
	}
	return false
}

// egressOf is the outbound view behind one egress listener.
func (ix *Index) egressOf(s *Scope, l *EgressListener, f *importFilter) *Egress {
	port, limited := l.onPort()
	if f.everything() && !limited {
		return newEgress(l, ix.servicesFor(s), ix.virtualServices.inMesh(s.Class.Namespace))
	}
	rules := ix.rulesFrom(s, f)
	var letIn []*SettledVirtualService
	for _, vs := range rules {
		if f.virtualService(vs.Namespace, vs.Hosts) {
			letIn = append(letIn, vs)
		}
	}
	var services []*VisibleService
	for _, v := range ix.imported(s, f) {
		if limited {
			v = v.onPort(port)
		}
		if v != nil {
			services = append(services, v)
		}
	}
	return ix.reachOnly(s, l, services, letIn)
}

// imported are the services that a filter lets in, one per host, ordered by
// host. Of those of one host the client's own namespace goes first.
func (ix *Index) imported(s *Scope, f *importFilter) []*VisibleService {
	var out []*VisibleService
	for _, host := range ix.hostsFor(f) {
		var best *config.Service
		for _, svc := range ix.services.all[host] {
			if !svc.ExportTo.To(s.Class.Namespace) || !f.service(svc.Namespace, host) {
				continue
			}
			if svc.Namespace == s.Class.Namespace {
				best = svc
				break
			}
			if best == nil {
				best = svc
			}
		}
		if best == nil {
			continue
		}
		out = append(out, ix.shareVisible(nil, best, ix.ruleFor(best, s.Class.Namespace, s.Labels)))
	}
	return out
}

// hostsFor are the hosts, sorted, that a filter may let in.
func (ix *Index) hostsFor(f *importFilter) []string {
	namespaces, all := f.namespaces()
	switch {
	case f.exact:
		return f.hosts()
	case all:
		return ix.services.hosts
	}
	var out []string
	for _, ns := range namespaces {
		for _, s := range ix.mesh.Services.In(ns) {
			out = append(out, s.Hostname)
		}
	}
	if len(namespaces) == 1 {
		return out
	}
	return sortedSet(out)
}

// rulesFrom are the mesh's VirtualServices that a filter may let in, in order of
// precedence.
func (ix *Index) rulesFrom(s *Scope, f *importFilter) []*SettledVirtualService {
	if namespaces, all := f.namespaces(); !all {
		return ix.virtualServices.byGateway[meshGateway].from(namespaces, s.Class.Namespace)
	}
	return ix.virtualServices.inMesh(s.Class.Namespace)
}
