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
	gateways         []*settledGateway // the oldest first
	tested           testedKeys
	// places are the services whose clusters carry endpoints of several places.
	places map[config.ServiceID]bool
	// envoyFilters are what patches test of proxies.
	envoyFilters envoyFilterIndex
	visible      visibleServices
	gathered     gathered
	generations  generations

	// testedOutbound, testedInbound and testedGateway are the label keys that
	// selectors of the side test, sorted. Labels outside them cannot change a
	// scope.
	testedOutbound []string
	testedInbound  []string
	testedGateway  []string
	// portNames are the names of container ports that Services target, sorted.
	portNames []string
	// near: some cluster carries endpoints of several places.
	near bool
}

// NewIndex arranges a Mesh.
func NewIndex(m *config.Mesh) *Index { return nextIndex(m, nil) }

// nextIndex is NewIndex, made of the Index of another Mesh, which may be nil,
// with what differs between the two: its cost is that of the change. A part is
// carried over only as a whole, or object by object as the Meshes' objects are
// the very same, so that it cannot tell which Index it began with.
func nextIndex(m *config.Mesh, prev *Index) *Index {
	if prev == nil || prev.mesh.Settings != m.Settings {
		prev = &Index{mesh: &config.Mesh{}}
	}
	ix := &Index{mesh: m}
	ix.virtualServices = prev.virtualServices.next(m, prev.mesh)
	ix.destinationRules = prev.destinationRules.next(m, prev.mesh)
	ix.gateways = nextGateways(prev.gateways, m, prev.mesh)
	ix.peers = prev.peers
	if prev.peers.others == nil || !m.PeerAuthentications.Same(prev.mesh.PeerAuthentications) {
		ix.peers = newPeerIndex(m)
	}
	ix.places = nextPlaces(m, prev)
	ix.near = len(ix.places) > 0
	ix.envoyFilters = prev.envoyFilters
	if !m.EnvoyFilters.Same(prev.mesh.EnvoyFilters) {
		ix.envoyFilters = newEnvoyFilterIndex(m)
	}
	ix.services = prev.services.next(ix, prev)
	ix.visible, ix.gathered = prev.visible.next(), prev.gathered.next()
	ix.generations = prev.generations.next(m, prev.mesh)
	ix.tested = prev.tested.next(m, prev.mesh)
	ix.testedOutbound = ix.tested.outbound(ix.near)
	ix.testedInbound = ix.tested.inbound()
	ix.testedGateway = mergedKeys(ix.testedOutbound, ix.testedInbound)
	ix.portNames = ix.tested.portNames.sorted()
	return ix
}

// Mesh is the Mesh that the Index arranges.
func (ix *Index) Mesh() *config.Mesh { return ix.mesh }
