package translate

import (
	"slices"
	"strings"

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
// already. Its version is the hash of their hashes, so a change of one of
// thousands costs one virtual host and a list.
func (b *build) spliceRoutes(name string, parts []*vhostPart, ignorePort bool) *Resource {
	slices.SortStableFunc(parts, func(x, y *vhostPart) int { return strings.Compare(x.name, y.name) })
	head := &route.RouteConfiguration{
		Name: name, ValidateClusters: wrapperspb.Bool(false), IgnorePortInHostMatching: ignorePort,
	}
	for _, p := range parts {
		if p.longestBody > defaultDirectBody {
			head.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(maxDirectBody)
			break
		}
	}
	prefix, err := proto.MarshalOptions{Deterministic: true}.Marshal(head)
	if err != nil {
		b.problems = append(b.problems, unencodable("route table "+name, err, nil))
		return nil
	}
	h := config.NewHasher().Str("routes").Bytes(prefix)
	for _, p := range parts {
		h.Hash(p.hash)
	}
	version := h.Sum()
	return remember(b, version, func() (*Resource, []config.Problem) {
		return joinParts(name, version, prefix, parts), nil
	})
}

func joinParts(name string, version config.Hash, prefix []byte, parts []*vhostPart) *Resource {
	r := &Resource{Name: name, Version: version, Body: make([][]byte, 0, len(parts)+1)}
	r.Body = append(r.Body, prefix)
	clusters := make([]string, 0, len(parts))
	seen := make(map[*config.Meta]bool, len(parts))
	for _, p := range parts {
		r.Body = append(r.Body, p.bytes)
		clusters = append(clusters, p.clusters...)
		for _, m := range p.sources {
			if !seen[m] {
				seen[m] = true
				r.Sources = append(r.Sources, m)
			}
		}
	}
	slices.Sort(clusters)
	r.Refs.Clusters = slices.Clip(slices.Compact(clusters))
	return r
}
