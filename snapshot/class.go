package snapshot

import (
	"slices"
	"sort"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// slot is one class of proxies that is connected, or was recently. It stays
// the same value while its state follows the mesh.
type slot struct {
	class translate.Class
	// The rest is guarded by Cache.mu.
	state *classState
	users int       // audiences
	idle  time.Time // since when users is 0
	// rejected are the versions that a proxy of the class has refused.
	rejected [kinds]map[string]*rejection
}

// classState is what one class is served at one Mesh. Immutable, except that
// viewers are added under Cache.mu.
type classState struct {
	key       config.Hash
	resources *resources
	// layers are all but the endpoints'.
	layers [kinds]*layer
	// assignments are the endpoints, by what they depend on of a viewer.
	assignments map[translate.Viewer]*layer
}

// buildClass makes the state of a class. prev, which may be nil, is its state
// before: what is equal is taken over.
func (c *Cache) buildClass(a Arrangement, class translate.Class, prev *classState, rejected *[kinds]map[string]*rejection) *classState {
	key, translate := a.Gather(class)
	reused := prev != nil && prev.key == key
	c.metrics.reused(reused)
	if reused {
		return &classState{key: key, resources: prev.resources, layers: prev.layers}
	}
	s := &classState{key: key, resources: newResources(translate())}
	s.layers = settle(s.resources.Resources, prev, rejected)
	return s
}

// serves reports whether the endpoints of a class are made for one viewer.
// Classes without clusters that have any need none.
func (s *classState) serves(v translate.Viewer) bool {
	_, ok := s.assignments[v]
	return ok || len(s.resources.Endpoints) == 0
}

// settle makes the layers of resources, leaving out what proxies rejected.
func settle(r *translate.Resources, prev *classState, rejected *[kinds]map[string]*rejection) [kinds]*layer {
	var out [kinds]*layer
	for k, set := range sets(r) {
		k := kind(k)
		var before *layer
		if prev != nil {
			before = prev.layers[k]
		}
		var bad map[string]*rejection
		if rejected != nil {
			bad = rejected[k]
		}
		items, withheld, stale := acceptable(set.Items(), bad, before, out[clusters])
		next := newLayer(k, items, withheld)
		next.stale = stale
		out[k] = succeed(before, next)
	}
	return out
}

// sets are the resources that a class has itself, by kind; the others are nil.
func sets(r *translate.Resources) [kinds]*translate.Set {
	return [kinds]*translate.Set{
		clusters: r.Clusters, listeners: r.Listeners, routes: r.Routes, extensions: r.Extensions,
	}
}

// succeed returns prev if next has the same content, else next with what prev
// knew about acceptance. For endpoints, where a rejection concerns one client
// alone, that is not kept.
func succeed(prev, next *layer) *layer {
	if prev != nil && prev.hash == next.hash {
		return prev
	}
	if len(next.items) == 0 && len(next.withheld) == 0 && prev == nil {
		return nil
	}
	if next.kind != endpoints {
		next.follow(prev)
	}
	return next
}

// assign makes the endpoints' layer of a class for one viewer. changed are
// the services whose endpoints are not those that before was made of.
func (c *Cache) assign(specs []translate.EndpointSpec, m *config.Mesh, v translate.Viewer, before *assigned, changed map[config.ServiceID]bool) *layer {
	items := make([]*translate.Resource, 0, len(specs))
	var old []*translate.Resource
	var oldSpecs []translate.EndpointSpec
	if before != nil {
		old, oldSpecs = before.layer.all(), before.specs
	}
	for i := range specs {
		spec := &specs[i]
		var r *translate.Resource
		if !changed[spec.Service] && sameSpec(oldSpecs, spec) {
			if j := sort.Search(len(old), func(j int) bool { return old[j].Name >= spec.Cluster }); j < len(old) && old[j].Name == spec.Cluster {
				r = old[j]
			}
		}
		if r == nil {
			r = c.endpoints(spec, m, v)
		}
		if r != nil && (len(items) == 0 || items[len(items)-1].Name != r.Name) {
			items = append(items, r)
		}
	}
	var prev *layer
	if before != nil {
		prev = before.layer
	}
	return succeed(prev, newLayer(endpoints, items, nil))
}

// assigned is an endpoints' layer and the specs that it was made of.
type assigned struct {
	specs []translate.EndpointSpec
	layer *layer
}

func sameSpec(specs []translate.EndpointSpec, s *translate.EndpointSpec) bool {
	i, ok := slices.BinarySearchFunc(specs, s.Cluster, func(e translate.EndpointSpec, name string) int {
		switch {
		case e.Cluster < name:
			return -1
		case e.Cluster > name:
			return 1
		}
		return 0
	})
	return ok && specs[i].Hash == s.Hash
}

// endpoints returns an assignment, made once for all classes that have it.
func (c *Cache) endpoints(spec *translate.EndpointSpec, m *config.Mesh, v translate.Viewer) *translate.Resource {
	eps, _ := m.Endpoints.Get(spec.Service.Namespace, spec.Service.Hostname)
	v = spec.Reads(v)
	key := assignment{spec: spec.Hash, viewer: v}
	if eps != nil {
		key.endpoints = eps.Hash
	}
	r := c.assignments.get(key)
	c.metrics.remembered(r != nil)
	if r != nil {
		return r
	}
	if r = c.source.Endpoints(spec, eps, v); r != nil {
		r = c.assignments.add(key, r)
	}
	return r
}
