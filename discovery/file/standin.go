package file

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// standIn is what takes the place of an object that cannot be used, nil for
// kinds without which less is allowed, not more.
func (b *body) standIn(meta *config.Meta, spec proto.Message) *discovery.Object {
	m := *meta
	m.Key = b.key
	if o, ok := discovery.StandIn(m, spec, b.selectionRead()); ok {
		return &o
	}
	return nil
}

// selectionRead reports that the fields that say for which workloads a policy
// is were read as they were written. An unknown field may have been meant as
// one of them if there are none.
func (b *body) selectionRead() bool {
	if b.unread {
		return false
	}
	written := false
	if n := b.field("spec"); n != nil {
		written = slices.ContainsFunc(fields(&encoder{}, target(n)), func(e entry) bool {
			return discovery.InSelection("spec." + e.key.Value)
		})
	}
	return !slices.ContainsFunc(b.faulty, func(f fault) bool {
		return discovery.InSelection(f.path) || !written && f.code == "UnknownField" && strings.Count(f.path, ".") == 1
	})
}

// standInFor takes the place of an object of which nothing but its name, if
// that, can be read.
func standInFor(d *document, file string, line int) *discovery.Object {
	m := config.Meta{Key: d.key, File: file, Line: line}
	if istio, ok := istioKindOf(d.key.Group, d.key.Kind); ok {
		m.Version = istio.Versions[0]
	}
	if m.Name == "" {
		m.Name = "unnamed"
	}
	if discovery.IsReferenceGrant(m.Key) {
		m.Version = discovery.ReferenceGrantVersions()[0]
		return discovery.NoGrant(m)
	}
	if o, ok := discovery.StandIn(m, nil, false); ok {
		return &o
	}
	return nil
}
