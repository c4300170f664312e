package simulate

import (
	"fmt"
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Part is what one class of proxies is sent. Resources are decoded when they
// are first needed. Safe for concurrent use, and shared by Configs.
type Part struct {
	resources *translate.Resources
	pieces    *pieces
	scope     *translate.Scope // what they were made of; nil if that is not known

	mu        sync.Mutex // guards what follows
	listeners *listenerIndex
	routes    map[string]*routeTable
	clusters  map[string]*cluster.Cluster
	unpacked  map[*anypb.Any]unpacked
}

// NewPart is the Part of these resources.
func NewPart(r *translate.Resources) *Part { return newPart(r, newPieces()) }

func newPart(r *translate.Resources, shared *pieces) *Part {
	return &Part{
		resources: r, pieces: shared, routes: map[string]*routeTable{}, clusters: map[string]*cluster.Cluster{},
		unpacked: map[*anypb.Any]unpacked{},
	}
}

// Resources are what the Part was made of.
func (p *Part) Resources() *translate.Resources { return p.resources }

// Config is everything that one Envoy was sent: the union of its Parts, and
// endpoints. Safe for concurrent use.
type Config struct {
	parts     []*Part
	endpoints func(cluster string) *translate.Resource
	secrets   func(name string) *translate.Resource // nil: none is known
	lacks     func(name string) bool                // a secret that must be there; nil: no

	mu       sync.Mutex // guards what follows
	assigned map[string]*endpoint.ClusterLoadAssignment
}

type unpacked struct {
	m   proto.Message
	err error
}

// NewConfig is the Config of an Envoy that is served the union of parts, and
// endpoints for its clusters; endpoints may return nil for "no answer yet".
func NewConfig(endpoints func(cluster string) *translate.Resource, parts ...*Part) *Config {
	return &Config{parts: parts, endpoints: endpoints, assigned: map[string]*endpoint.ClusterLoadAssignment{}}
}

// Parts are what the Envoy was sent.
func (c *Config) Parts() []*Part { return c.parts }

// listenerIndex holds the listeners, with the reasons for which some are not
// there.
type listenerIndex struct {
	all    []*listener.Listener
	broken []string
}

func (p *Part) allListeners() *listenerIndex {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners != nil {
		return p.listeners
	}
	p.listeners = &listenerIndex{}
	for _, r := range p.resources.Listeners.Items() {
		l := &listener.Listener{}
		if err := proto.Unmarshal(r.Bytes(), l); err != nil {
			p.listeners.broken = append(p.listeners.broken, fmt.Sprintf("listener %s cannot be read: %v", r.Name, err))
			continue
		}
		p.listeners.all = append(p.listeners.all, l)
	}
	return p.listeners
}

func (c *Config) allListeners() *listenerIndex {
	if len(c.parts) == 1 {
		return c.parts[0].allListeners()
	}
	out := &listenerIndex{}
	for _, p := range c.parts {
		l := p.allListeners()
		out.all = append(out.all, l.all...)
		out.broken = append(out.broken, l.broken...)
	}
	return out
}

// table is the route table of that name, or nil.
func (c *Config) table(name string) *routeTable {
	for _, p := range c.parts {
		if t := p.table(name); t != nil {
			return t
		}
	}
	return nil
}

func (p *Part) table(name string) *routeTable {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.routes[name]; ok {
		return t
	}
	var t *routeTable
	if r := p.resources.Routes.Get(name); r != nil {
		if rc, err := p.pieces.routeConfiguration(r); err == nil {
			t = newRouteTable(rc)
		}
	}
	p.routes[name] = t
	return t
}

// cluster is the cluster of that name, or nil.
func (c *Config) cluster(name string) *cluster.Cluster {
	for _, p := range c.parts {
		if found := p.cluster(name); found != nil {
			return found
		}
	}
	return nil
}

func (p *Part) cluster(name string) *cluster.Cluster {
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, ok := p.clusters[name]; ok {
		return got
	}
	var out *cluster.Cluster
	if r := p.resources.Clusters.Get(name); r != nil {
		out = &cluster.Cluster{}
		if proto.Unmarshal(r.Bytes(), out) != nil {
			out = nil
		}
	}
	p.clusters[name] = out
	return out
}

// assignment is what EDS says about a cluster, or nil.
func (c *Config) assignment(name string) *endpoint.ClusterLoadAssignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if got, ok := c.assigned[name]; ok {
		return got
	}
	var out *endpoint.ClusterLoadAssignment
	if r := c.endpoints(name); r != nil {
		out = &endpoint.ClusterLoadAssignment{}
		if proto.Unmarshal(r.Bytes(), out) != nil {
			out = nil
		}
	}
	c.assigned[name] = out
	return out
}

// unpack decodes the configuration of an extension, once.
func (c *Config) unpack(a *anypb.Any) (proto.Message, error) {
	p := c.parts[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, ok := p.unpacked[a]; ok {
		return got.m, got.err
	}
	m, err := a.UnmarshalNew()
	p.unpacked[a] = unpacked{m, err}
	return m, err
}
