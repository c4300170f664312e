package translate

import (
	"slices"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// A change concerns few of a mesh's classes, and most of them can be told by what
// of the mesh they read without gathering it again. What was gathered is carried
// over from the Index before where every input is the very same value.

// generation stands for the objects of some kinds, or of some namespaces: the
// same pointer, the same objects.
type generation struct{ _ byte }

// generations are those that inbound scopes read.
type generations struct {
	// services are the Services, policies all that says how a workload's own
	// traffic is treated, but for DestinationRules.
	services, policies *generation
}

// next are the generations of m, given those of was.
func (g generations) next(m, was *config.Mesh) generations {
	if g.services == nil || !m.Services.Same(was.Services) {
		g.services = &generation{}
	}
	if g.policies == nil || m.KeySets != was.KeySets ||
		!m.Sidecars.Same(was.Sidecars) || !m.EnvoyFilters.Same(was.EnvoyFilters) ||
		!m.ProxyConfigs.Same(was.ProxyConfigs) || !m.ServiceEntries.Same(was.ServiceEntries) ||
		!m.PeerAuthentications.Same(was.PeerAuthentications) ||
		!m.RequestAuthentications.Same(was.RequestAuthentications) ||
		!m.AuthorizationPolicies.Same(was.AuthorizationPolicies) ||
		!m.Telemetries.Same(was.Telemetries) ||
		!m.TrafficExtensions.Same(was.TrafficExtensions) || !m.WasmPlugins.Same(was.WasmPlugins) {
		g.policies = &generation{}
	}
	return g
}

// gathered is what an Index has gathered, and what the Index before had.
type gathered struct{ made, before *sync.Map }

func (g gathered) next() gathered { return gathered{made: &sync.Map{}, before: g.made} }

// part is something gathered, with the inputs that it was gathered from.
type part struct {
	inputs []any
	value  any
}

// regather returns what is known under a key of these inputs, or gathers it.
func regather[T any](g gathered, key any, inputs []any, gather func() T) T {
	for _, known := range []*sync.Map{g.made, g.before} {
		if known == nil {
			continue
		}
		if v, ok := known.Load(key); ok {
			if p := v.(part); slices.Equal(p.inputs, inputs) {
				if known != g.made {
					g.made.Store(key, p)
				}
				return p.value.(T)
			}
		}
	}
	v := gather()
	g.made.Store(key, part{inputs, v})
	return v
}

// sameList identifies a list that is never modified in place.
type sameList[T any] struct {
	first *T
	n     int
}

func listOf[T any](list []T) sameList[T] {
	if len(list) == 0 {
		return sameList[T]{}
	}
	return sameList[T]{&list[0], len(list)}
}

// inboundInputs are what an inbound scope of a namespace reads.
func (ix *Index) inboundInputs(namespace string) []any {
	return append(ix.ruleInputs(namespace, namespace), ix.generations.services, ix.generations.policies)
}

// ruleInputs are the DestinationRules that clients of one namespace read for the
// services of others.
func (ix *Index) ruleInputs(client string, namespaces ...string) []any {
	x := &ix.destinationRules
	out := []any{x.private[client], x.rootPrivate, x.exported[x.root]}
	for _, ns := range namespaces {
		out = append(out, x.exported[ns])
	}
	return out
}

// egressKey names an outbound view of a class.
type egressKey struct {
	sidecar           *config.SidecarScope
	listener          int
	namespace, labels string
}

// egressInputs are what an outbound view reads that imports from some namespaces
// and whose VirtualServices lead to nothing else.
func (ix *Index) egressInputs(client string, namespaces []string) []any {
	out := ix.ruleInputs(client, namespaces...)
	var rules boundVirtualServices
	if b := ix.virtualServices.byGateway[meshGateway]; b != nil {
		rules = *b
	}
	out = append(out, listOf(rules.private[client]), listOf(rules.exported[client]))
	for _, ns := range namespaces {
		out = append(out, listOf(ix.mesh.Services.In(ns)), listOf(ix.mesh.Endpoints.In(ns)), listOf(rules.publicOf[ns]), ix.peers.in(ns))
	}
	return out
}
