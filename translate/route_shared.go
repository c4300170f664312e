package translate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// sharedTable is a sidecar's route table as clients have it to whom all hosts
// are of other namespaces. The table of a namespace differs in its own hosts,
// which have a shorter name there, and in rules that test the client, so that
// a scope costs those and a copy of the list. Immutable.
type sharedTable struct {
	inputs []vhostInput
	// parts are the virtual hosts by position of the input; nil where there
	// is none.
	parts []*vhostPart
	// problems are those of making them, by position.
	problems map[int][]config.Problem
	// own are the positions of a namespace's own hosts.
	own map[string][]int
	// reading are the positions whose rules test the client; they have no
	// virtual host here.
	reading []int
	// clusters and sources are what a table has whose virtual hosts all
	// agree with these in them.
	clusters []string
	sources  []*config.Meta
}

// madeVhost is one virtual host, or nil if there is none, with what was found
// making it.
type madeVhost struct {
	part     *vhostPart
	problems []config.Problem
}

// tableParts are the virtual hosts of a table for this scope, with what they
// lead to and were made of.
func (b *build) tableParts(t *routeTable, env *routeEnv) (parts []*vhostPart, clusters []string, sources []*config.Meta) {
	shared := b.sharedTable(t, env)
	parts = slices.Clone(shared.parts)
	clusters, sources = shared.clusters, shared.sources
	ns, _, _ := strings.Cut(env.dnsDomain, ".svc.")
	alike := true
	redone := map[int]bool{}
	for _, positions := range [][]int{shared.own[ns], shared.reading} {
		for _, i := range positions {
			made := b.outboundVhost(t, env, &shared.inputs[i])
			alike = alike && sameRefs(made.part, shared.parts[i])
			parts[i], redone[i] = made.part, true
			b.problems = append(b.problems, made.problems...)
		}
	}
	for _, i := range sortedPositions(shared.problems) {
		if !redone[i] {
			b.problems = append(b.problems, shared.problems[i]...)
		}
	}
	parts = slices.DeleteFunc(parts, func(p *vhostPart) bool { return p == nil })
	settled := b.settleDomains(parts)
	if !alike || len(settled) < len(parts) {
		clusters, sources = clustersAndSources(settled)
	}
	return settled, clusters, sources
}

func sortedPositions(m map[int][]config.Problem) []int {
	out := make([]int, 0, len(m))
	for i := range m {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// sameRefs reports whether two virtual hosts lead to the same clusters and
// were made of the same objects.
func sameRefs(p, q *vhostPart) bool {
	return p != nil && q != nil && slices.Equal(p.clusters, q.clusters) && slices.Equal(p.sources, q.sources)
}

func (b *build) sharedTable(t *routeTable, env *routeEnv) *sharedTable {
	_, cluster, inCluster := strings.Cut(env.dnsDomain, ".svc.")
	others := *env
	if inCluster {
		others.dnsDomain = ".svc." + cluster // of no namespace
	}
	h := config.NewHasher().Str("shared table").Hash(t.Egress.hash, env.hash).Uint(uint64(t.Port)).Str(others.dnsDomain)
	b.scope.OutboundPolicy.addTo(h)
	key := h.Sum()
	if s, ok := b.t.tables.Get(key); ok {
		return s
	}
	s := b.makeSharedTable(t, &others, inCluster)
	b.t.tables.Add(key, s)
	return s
}

// makeSharedTable makes the virtual hosts in order of their hosts; the one
// that answers for all others comes last.
func (b *build) makeSharedTable(t *routeTable, env *routeEnv, inCluster bool) *sharedTable {
	s := &sharedTable{own: map[string][]int{}, problems: map[int][]config.Problem{}}
	s.inputs = vhostInputs(t)
	slices.SortFunc(s.inputs, func(x, y vhostInput) int {
		return cmp.Or(strings.Compare(x.host, y.host), cmp.Compare(x.port, y.port))
	})
	s.inputs = append(s.inputs, vhostInput{})
	s.parts = make([]*vhostPart, len(s.inputs))
	for i := range s.inputs {
		in := &s.inputs[i]
		var made madeVhost
		switch r := in.rules; {
		case in.host == "":
			made = b.catchAll(env)
		case r != nil && (r.readsLabels || r.readsNamespace):
			s.reading = append(s.reading, i)
			continue
		default:
			made = b.outboundVhost(t, env, in)
		}
		s.parts[i] = made.part
		if len(made.problems) > 0 {
			s.problems[i] = made.problems
		}
		if inCluster {
			s.note(namespaceOf(in.host, env.dnsDomain), i)
			for _, alias := range t.Egress.hosts.aliases[in.host] {
				s.note(namespaceOf(alias, env.dnsDomain), i)
			}
		}
	}
	s.clusters, s.sources = clustersAndSources(s.parts)
	return s
}

// note records that a position has a host of a namespace.
func (s *sharedTable) note(ns string, i int) {
	if at := s.own[ns]; ns != "" && (len(at) == 0 || at[len(at)-1] != i) {
		s.own[ns] = append(at, i)
	}
}

// namespaceOf is the namespace in a service's full name, or nothing for other
// hosts. dnsDomain is that of some client of the cluster.
func namespaceOf(host, dnsDomain string) string {
	_, cluster, _ := strings.Cut(dnsDomain, ".svc.")
	before, after, ok := strings.Cut(host, ".svc.")
	if !ok || after != cluster {
		return ""
	}
	_, ns, _ := strings.Cut(before, ".")
	return ns
}
