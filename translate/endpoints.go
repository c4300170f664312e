package translate

import (
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// EndpointSpec says which endpoints a cluster has. Immutable, comparable by
// Hash.
type EndpointSpec struct {
	// Cluster is the EDS resource's name.
	Cluster string
	Service config.ServiceID
	Port    config.ServicePort
	// Subset are the labels that an endpoint must have.
	Subset map[string]string
	// Hash identifies everything above and the policies that shape the
	// assignment.
	Hash config.Hash

	policy *endpointPolicy
}

// Viewer is what of a proxy the endpoints it is sent may depend on.
// Comparable.
type Viewer struct {
	Locality config.Locality
	Network  string
	Cluster  string
	Node     string
	// Labels are the labels that a failoverPriority tests, canonical.
	Labels string
}

func sortEndpointSpecs(s []EndpointSpec) {
	slices.SortFunc(s, func(a, b EndpointSpec) int { return strings.Compare(a.Cluster, b.Cluster) })
}

// ReadsNothing reports whether all viewers are sent the same assignment.
func (s *EndpointSpec) ReadsNothing() bool {
	return s.policy == nil || s.policy.readsNothing()
}

// Reads blanks what of a viewer this assignment does not depend on: viewers
// that come out equal are sent the same assignment.
func (s *EndpointSpec) Reads(v Viewer) Viewer {
	if s.policy == nil {
		return Viewer{}
	}
	return s.policy.reads(v)
}

// Endpoints makes the ClusterLoadAssignment of a cluster for one viewer.
// Endpoints may be nil. It is never nil itself: a cluster without endpoints
// has an empty assignment. It is not remembered: endpoints come and go for ever,
// and who serves an assignment knows how long it is needed.
func (t *Translator) Endpoints(spec *EndpointSpec, eps *config.Endpoints, v Viewer) *Resource {
	v = spec.Reads(v)
	var list []config.Endpoint
	if eps != nil {
		list = eps.ByPort[spec.Port.Name]
	}
	r, err := NewResource(spec.Cluster, assign(spec, list, v), Refs{})
	if err != nil { // text that is not UTF-8; such endpoints cannot be sent
		r, _ = NewResource(spec.Cluster, assign(spec, nil, v), Refs{})
	}
	return r
}

func (v Viewer) addTo(h config.Hasher) {
	h.Str(v.Locality.Region, v.Locality.Zone, v.Locality.Subzone, v.Network, v.Cluster, v.Node, v.Labels)
}
