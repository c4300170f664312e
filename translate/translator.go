package translate

import (
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Translator makes Envoy resources from Scopes. It remembers the resources
// that it made under the hash of their inputs, so that a cluster seen by a
// thousand scopes is built and serialized once; what it remembers never
// changes a result. Safe for concurrent use.
type Translator struct {
	memo *lru.Cache[config.Hash, remembered]
	// tables are few and large: lists of thousands of virtual hosts.
	tables *lru.Cache[config.Hash, *sharedTable]
	// lists are those of successions.
	lists   *lru.Cache[config.Hash, any]
	indexes indexes
}

const (
	rememberedTables = 128
	rememberedLists  = 128
)

// remembered is one memoized value with what must be told when it is used
// again.
type remembered struct {
	resource *Resource
	clusters *clusterGroup
	value    any // another kind of part, see remember
	problems []config.Problem
}

// NewTranslator returns a Translator that remembers up to size resources.
func NewTranslator(size int) *Translator {
	memo, err := lru.New[config.Hash, remembered](max(size, 1))
	if err != nil {
		panic(err) // only for a size below one
	}
	tables, err := lru.New[config.Hash, *sharedTable](rememberedTables)
	if err != nil {
		panic(err) // only for a size below one
	}
	lists, err := lru.New[config.Hash, any](rememberedLists)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Translator{memo: memo, tables: tables, lists: lists}
}

// build is what one Translate call accumulates.
type build struct {
	t          *Translator
	scope      *Scope
	clusters   []*Resource
	listeners  []*Resource
	routes     []*Resource
	extensions []*Resource
	endpoints  []EndpointSpec
	tables     []routeTable // asked for by listeners, filled by routes
	applied    []Applied
	problems   []config.Problem
}

// Translate makes a Scope's resources.
func (t *Translator) Translate(s *Scope) *Resources {
	b := &build{t: t, scope: s}
	switch grpc := s.Class.Traits.Generator == grpcGenerator; {
	case grpc && s.Class.Side == Outbound:
		b.grpcClient()
		return b.resources()
	case grpc && s.Class.Side == Inbound:
		b.grpcServer()
		return b.resources()
	}
	switch s.Class.Side {
	case Outbound:
		b.outboundClusters()
		b.outboundListeners()
		b.outboundRoutes()
	case Inbound:
		b.inboundClusters()
		b.inboundListeners()
	case GatewaySide:
		b.outboundClusters()
		b.gatewayListeners()
		b.gatewayRoutes()
	}
	b.extensionConfigs()
	b.patch()
	return b.resources()
}

// resources are what has been built.
func (b *build) resources() *Resources {
	s := b.scope
	sortEndpointSpecs(b.endpoints)
	return &Resources{
		Key: s.key, Clusters: NewSet(b.clusters), Listeners: NewSet(b.listeners),
		Routes: NewSet(b.routes), Extensions: extensionSet(b.extensions), Endpoints: b.endpoints, Services: s.visibleServices(),
		Applied:  b.applied,
		Problems: append(append([]config.Problem(nil), s.problems...), b.problems...),
	}
}

// resource returns the resource remembered under key, or builds, encodes and
// remembers it. The key must cover everything that make reads. A nil message
// means that there is no such resource.
func (b *build) resource(key config.Hash, make func() (name string, m proto.Message, refs Refs, sources []*config.Meta, problems []config.Problem)) *Resource {
	if r, ok := b.t.memo.Get(key); ok {
		b.problems = append(b.problems, r.problems...)
		return r.resource
	}
	name, m, refs, sources, problems := make()
	b.problems = append(b.problems, problems...)
	if m == nil {
		b.t.memo.Add(key, remembered{problems: problems})
		return nil
	}
	r, err := NewResource(name, m, refs, sources...)
	if err != nil {
		b.problems = append(b.problems, unencodable(name, err, sources))
		return nil
	}
	b.t.memo.Add(key, remembered{resource: r, problems: problems})
	return r
}

// unencodable reports a message with text that is not UTF-8: the only way in
// which encoding can fail.
func unencodable(name string, err error, sources []*config.Meta) config.Problem {
	p := config.Problem{Severity: config.Error, Code: "NotEncodable", Message: name + ": " + err.Error()}
	if len(sources) > 0 {
		p = config.At(sources[0], "", config.Error, "NotEncodable", "%s: %v", name, err)
	}
	return p
}
