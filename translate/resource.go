package translate

import (
	"slices"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Type URLs of the xDS resource types that translation produces.
const (
	ClusterType   = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType  = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType     = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	SecretType    = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
)

// Resource is one serialized Envoy resource. Immutable.
type Resource struct {
	Name string
	// Version is a hash of the content: equal bytes, equal version, in every
	// process.
	Version config.Hash
	// Body is the encoded message: the pieces in order, concatenated. A large
	// RouteConfiguration shares its virtual hosts' pieces with others.
	Body [][]byte
	// Sources are the objects that made it, for the attribution of a NACK.
	Sources []*config.Meta
	// Refs are the names of the resources that it points to: a listener's
	// routes, a route's clusters. Sorted. A resource is sent after those, and
	// they are removed after it.
	Refs Refs
}

// Refs are the names, by type, that a resource points to, each sorted.
type Refs struct {
	Clusters []string
	Routes   []string
	Secrets  []string
}

// Size is the length of the encoded message in bytes.
func (r *Resource) Size() int {
	n := 0
	for _, b := range r.Body {
		n += len(b)
	}
	return n
}

// Bytes is the encoded message in one piece.
func (r *Resource) Bytes() []byte {
	if len(r.Body) == 1 {
		return r.Body[0]
	}
	out := make([]byte, 0, r.Size())
	for _, b := range r.Body {
		out = append(out, b...)
	}
	return out
}

// NewResource encodes a message deterministically.
func NewResource(name string, m proto.Message, refs Refs, sources ...*config.Meta) (*Resource, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &Resource{
		Name: name, Version: config.NewHasher().Bytes(b).Sum(), Body: [][]byte{b},
		Sources: sources, Refs: refs,
	}, nil
}

// Set is an immutable set of resources of one type, sorted by name. The nil
// Set is empty.
type Set struct {
	items []*Resource
	hash  config.Hash
}

// NewSet makes a Set; of two resources of one name the first one stays.
func NewSet(items []*Resource) *Set {
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
	out := items[:0]
	h := config.NewHasher()
	for _, r := range items {
		if len(out) > 0 && out[len(out)-1].Name == r.Name {
			continue
		}
		out = append(out, r)
		h.Str(r.Name).Hash(r.Version)
	}
	return &Set{items: out, hash: h.Sum()}
}

// Items are the resources by name. Not to be modified.
func (s *Set) Items() []*Resource {
	if s == nil {
		return nil
	}
	return s.items
}

// Len is the number of resources.
func (s *Set) Len() int { return len(s.Items()) }

// Hash identifies names and versions.
func (s *Set) Hash() config.Hash {
	if s == nil {
		return 0
	}
	return s.hash
}

// Get returns the resource of that name, or nil.
func (s *Set) Get(name string) *Resource {
	items := s.Items()
	i := sort.Search(len(items), func(i int) bool { return items[i].Name >= name })
	if i < len(items) && items[i].Name == name {
		return items[i]
	}
	return nil
}

// Resources is everything that one Scope yields. Immutable.
type Resources struct {
	Key       config.Hash
	Clusters  *Set
	Listeners *Set
	Routes    *Set
	// Extensions are TypedExtensionConfigs for ECDS.
	Extensions *Set
	// Endpoints says, for each cluster whose endpoints come over EDS, which
	// they are; sorted by name. The endpoints themselves live beside the
	// scope: Translator.Endpoints.
	Endpoints []EndpointSpec
	// Services are those that the scope's proxies may have names of: see
	// NameTable.
	Services []*config.Service
	// Applied are the EnvoyFilters' patches that are for the scope; see
	// UnmatchedPatches.
	Applied []Applied
	// Problems are those that appear only in the combination that this scope
	// sees, such as two services that want one listener.
	Problems []config.Problem
}
