package translate

import (
	"github.com/pilotfish-mesh/pilotfish/config"
)

// Index arranges one Mesh for gathering: what applies to a host, which labels
// selectors test. Immutable; it depends on nothing but the Mesh.
type Index struct {
	mesh *config.Mesh

	services         serviceIndex
	virtualServices  virtualServiceIndex
	destinationRules destinationRuleIndex
	peers            peerIndex

	// testedOutbound, testedInbound and testedGateway are the label keys that
	// selectors of the side test, sorted. Labels outside them cannot change a
	// scope.
	testedOutbound []string
	testedInbound  []string
	testedGateway  []string
	// portNames are the names of container ports that Services target.
	portNames map[string]bool
	// near: some cluster carries endpoints of several places.
	near bool
	// envoyFilters are what patches test of proxies.
	envoyFilters envoyFilterIndex
}

// NewIndex arranges a Mesh.
func NewIndex(m *config.Mesh) *Index {
	ix := &Index{mesh: m}
	ix.services = newServiceIndex(m)
	ix.virtualServices = newVirtualServiceIndex(m, &ix.services)
	ix.destinationRules = newDestinationRuleIndex(m, &ix.services)
	ix.peers = newPeerIndex(m)
	ix.near = carriesPlaces(m)
	ix.envoyFilters = newEnvoyFilterIndex(m)
	ix.testedOutbound = ix.outboundLabelKeys()
	ix.testedInbound = ix.inboundLabelKeys()
	ix.testedGateway = mergedKeys(ix.testedOutbound, ix.testedInbound)
	ix.portNames = targetPortNames(m)
	return ix
}

// Mesh is the Mesh that the Index arranges.
func (ix *Index) Mesh() *config.Mesh { return ix.mesh }

func (ix *Index) outboundLabelKeys() []string {
	keys := labelKeys{}
	m := ix.mesh
	for vs := range m.VirtualServices.All() {
		for _, h := range vs.Spec.GetHttp() {
			for _, match := range h.GetMatch() {
				keys.add(match.GetSourceLabels())
			}
		}
		for _, t := range vs.Spec.GetTls() {
			for _, match := range t.GetMatch() {
				keys.add(match.GetSourceLabels())
			}
		}
		for _, t := range vs.Spec.GetTcp() {
			for _, match := range t.GetMatch() {
				keys.add(match.GetSourceLabels())
			}
		}
	}
	for dr := range m.DestinationRules.All() {
		keys.add(dr.Spec.GetWorkloadSelector().GetMatchLabels())
	}
	ix.addPriorityLabels(keys)
	for gw := range m.Gateways.All() {
		keys.add(gw.Spec.GetSelector())
	}
	for sc := range m.Sidecars.All() {
		keys.add(sc.Spec.GetWorkloadSelector().GetLabels())
	}
	for ef := range m.EnvoyFilters.All() {
		addEnvoyFilterLabels(keys, ef.Spec)
	}
	for t := range m.Telemetries.All() {
		addAttachmentLabels(keys, t.Spec)
	}
	addExtensionLabels(keys, m)
	return keys.sorted()
}

func (ix *Index) inboundLabelKeys() []string {
	keys := labelKeys{}
	m := ix.mesh
	for s := range m.Services.All() {
		keys.add(s.Selector)
	}
	for sc := range m.Sidecars.All() {
		keys.add(sc.Spec.GetWorkloadSelector().GetLabels())
	}
	for ef := range m.EnvoyFilters.All() {
		addEnvoyFilterLabels(keys, ef.Spec)
	}
	for dr := range m.DestinationRules.All() {
		keys.add(dr.Spec.GetWorkloadSelector().GetMatchLabels())
	}
	for t := range m.Telemetries.All() {
		addAttachmentLabels(keys, t.Spec)
	}
	addExtensionLabels(keys, m)
	ix.addPolicyLabels(keys)
	return keys.sorted()
}

func (ix *Index) addPolicyLabels(keys labelKeys) {
	m := ix.mesh
	for p := range m.PeerAuthentications.All() {
		keys.add(p.Spec.GetSelector().GetMatchLabels())
	}
	for p := range m.RequestAuthentications.All() {
		addAttachmentLabels(keys, p.Spec)
	}
	for p := range m.AuthorizationPolicies.All() {
		addAttachmentLabels(keys, p.Spec)
	}
}
