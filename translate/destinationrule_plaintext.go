package translate

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// plaintextRules are DestinationRules that tell clients not to speak mesh TLS
// to services that take nothing else, or to speak it to those that take none.
func (ix *Index) plaintextRules() []config.Problem {
	var out []config.Problem
	for _, dr := range rulesInOrder(slices.Collect(ix.mesh.DestinationRules.All())) {
		for _, s := range ix.services.all[ruleHost(dr, ix.mesh.Settings.DomainSuffix)] {
			if s.External || !s.ExportTo.To(dr.Namespace) && s.Namespace != dr.Namespace {
				continue
			}
			if p := ix.plaintextRule(dr, s); p != nil {
				out = append(out, *p)
				break
			}
		}
	}
	return out
}

func (ix *Index) plaintextRule(dr *config.DestinationRule, s *config.Service) *config.Problem {
	policy := ix.peers.in(s.Namespace).of(s.Selector)
	eps, ok := ix.mesh.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return nil
	}
	for _, port := range s.Ports {
		mode := policy.On(targetPortNumber(port))
		t, field := tlsOnPort(dr.Spec.GetTrafficPolicy(), port.Number)
		if mode == PeerDisable && t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
			p := config.At(&dr.Meta, "spec.trafficPolicy."+field, config.Warning, "MutualTLSOff",
				"is ISTIO_MUTUAL, but port %d of %s takes no mesh TLS (PeerAuthentication DISABLE), so connections fail. Leave tls out", port.Number, s.Hostname)
			return &p
		}
		if mode != PeerStrict || !containsMeshTLS(eps.ByPort[port.Name]) {
			continue
		}
		if t == nil || t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
			continue
		}
		p := config.At(&dr.Meta, "spec.trafficPolicy."+field, config.Warning, "MutualTLSConflict",
			"is %s, but port %d of %s takes mesh TLS only (PeerAuthentication STRICT), so connections fail. Use ISTIO_MUTUAL, or leave tls out",
			t.GetMode(), port.Number, s.Hostname)
		return &p
	}
	return nil
}

func containsMeshTLS(list []config.Endpoint) bool {
	for i := range list {
		if list[i].MTLS {
			return true
		}
	}
	return false
}

// tlsOnPort is what a policy says about TLS to one port, and where.
func tlsOnPort(p *networking.TrafficPolicy, port uint32) (*networking.ClientTLSSettings, string) {
	for i, s := range p.GetPortLevelSettings() {
		if s.GetPort() != nil && s.GetPort().GetNumber() == port {
			return s.GetTls(), indexed("portLevelSettings", i) + ".tls.mode"
		}
	}
	return p.GetTls(), "tls.mode"
}
