package snapshot

import (
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// resources are what one scope yields.
type resources struct {
	*translate.Resources

	mu sync.Mutex
	// reading are the places in Endpoints of those that depend on the viewer at
	// all: few, and mostly none.
	reading []int
	// reads remembers what the endpoints of all clusters together depend on
	// of a viewer, so that proxies that differ in nothing else share them.
	reads map[translate.Viewer]translate.Viewer
	// tableMade is the name table made last, of endpoints of identity tableOf.
	tableMade *translate.Resource
	tableOf   config.Hash

	// byService finds specs; see specsOf.
	index     sync.Once
	byService map[config.ServiceID][]int
}

func newResources(of *translate.Resources) *resources {
	r := &resources{Resources: of}
	for i := range of.Endpoints {
		if !of.Endpoints[i].ReadsNothing() {
			r.reading = append(r.reading, i)
		}
	}
	return r
}

// specsOf are the places in Endpoints of the clusters of a service.
func (r *resources) specsOf(id config.ServiceID) []int {
	r.index.Do(func() {
		r.byService = make(map[config.ServiceID][]int, len(r.Endpoints))
		for i := range r.Endpoints {
			s := r.Endpoints[i].Service
			r.byService[s] = append(r.byService[s], i)
		}
	})
	return r.byService[id]
}

// maxReads bounds what is remembered of viewers that may have left.
const maxReads = 10_000

// viewer blanks what of a viewer no assignment depends on.
func (r *resources) viewer(full translate.Viewer) translate.Viewer {
	if len(r.reading) == 0 {
		return translate.Viewer{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.reads[full]; ok {
		return v
	}
	var v translate.Viewer
	for _, i := range r.reading {
		merge(&v, r.Endpoints[i].Reads(full), full)
	}
	if r.reads == nil || len(r.reads) >= maxReads {
		r.reads = map[translate.Viewer]translate.Viewer{}
	}
	r.reads[full] = v
	return v
}

// merge adds to v what one assignment reads of full.
func merge(v *translate.Viewer, read, full translate.Viewer) {
	if read == (translate.Viewer{}) {
		return
	}
	for _, f := range []struct{ to, from *string }{
		{&v.Locality.Region, &read.Locality.Region},
		{&v.Locality.Zone, &read.Locality.Zone},
		{&v.Locality.Subzone, &read.Locality.Subzone},
		{&v.Network, &read.Network},
		{&v.Cluster, &read.Cluster},
		{&v.Node, &read.Node},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	switch {
	case read.Labels == "" || read.Labels == v.Labels:
	case v.Labels == "":
		v.Labels = read.Labels
	default: // different ones: more than either
		v.Labels = full.Labels
	}
}
