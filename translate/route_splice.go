package translate

import (
	"slices"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// defaultDirectBody is the longest body in bytes of a direct response that
// Envoy takes unless a RouteConfiguration says otherwise.
const defaultDirectBody = 4096

// maxDirectBody is the longest that the checks let pass.
const maxDirectBody = 1 << 20

// spliceRoutes makes a RouteConfiguration of virtual hosts that are encoded
// already; nil ones are left out. Its version is the hash of their hashes, so
// a change of one of thousands costs one virtual host and a list. clusters and
// sources are those of the virtual hosts.
func (b *build) spliceRoutes(name string, parts []*vhostPart, ignorePort bool, clusters []string, sources []*config.Meta) *Resource {
	head := &route.RouteConfiguration{
		Name: name, ValidateClusters: wrapperspb.Bool(false), IgnorePortInHostMatching: ignorePort,
	}
	if slices.ContainsFunc(parts, func(p *vhostPart) bool { return p != nil && p.longestBody > defaultDirectBody }) {
		head.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(maxDirectBody)
	}
	prefix, err := proto.MarshalOptions{Deterministic: true}.Marshal(head)
	if err != nil {
		b.problems = append(b.problems, unencodable("route table "+name, err, nil))
		return nil
	}
	body := make([][]byte, 0, len(parts)+1)
	body = append(body, prefix)
	h := config.NewHasher().Str("routes").Bytes(prefix)
	for _, p := range parts {
		if p == nil {
			continue
		}
		body = append(body, p.bytes)
		h.Hash(p.hash)
	}
	return &Resource{Name: name, Version: h.Sum(), Body: body, Refs: Refs{Clusters: clusters}, Sources: sources}
}

// clustersAndSources are what virtual hosts lead to, sorted, and what they
// were made of, each once.
func clustersAndSources(parts []*vhostPart) ([]string, []*config.Meta) {
	clusters := make([]string, 0, len(parts))
	sources := make([]*config.Meta, 0, len(parts))
	seen := make(map[*config.Meta]bool, len(parts))
	for _, p := range parts {
		if p == nil {
			continue
		}
		clusters = append(clusters, p.clusters...)
		for _, m := range p.sources {
			if !seen[m] {
				seen[m] = true
				sources = append(sources, m)
			}
		}
	}
	slices.Sort(clusters)
	return slices.Clip(slices.Compact(clusters)), slices.Clip(sources)
}
