package main

import (
	"fmt"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"hash/maphash"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/agent/wire"
)

// The types that a sidecar subscribes to.
const (
	typeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	typeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	typeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// frame is a received response, undecoded and as the transport received it: the tool
// shares its two cores with the server, so it reads only what it needs, and copies
// what came in one piece nowhere.
type frame struct{ data mem.Buffer }

func (f *frame) raw() []byte { return f.data.ReadOnlyData() }

// codec receives frames and sends ordinary messages.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	b, err := proto.Marshal(v.(proto.Message))
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("unexpected %T", v)
	}
	f.data = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

// response is what the tool reads of either protocol's response.
type response struct {
	typeURL, version, nonce string
	resources               []resource
	removed                 []string
}

type resource struct {
	name, version string
	body          []byte
}

// parseSotW reads a DiscoveryResponse: version_info 1, resources 2 (Any),
// type_url 4, nonce 5.
func parseSotW(b []byte) (r response, err error) {
	err = wire.Fields(b, func(n protowire.Number, v []byte) error {
		switch n {
		case 1:
			r.version = string(v)
		case 2:
			r.resources = append(r.resources, resource{body: anyValue(v)})
		case 4:
			r.typeURL = string(v)
		case 5:
			r.nonce = string(v)
		}
		return nil
	})
	return r, err
}

// parseDelta reads a DeltaDiscoveryResponse: resources 2 (Resource: version 1,
// resource 2, name 3), type_url 4, nonce 5, removed_resources 6.
func parseDelta(b []byte) (r response, err error) {
	err = wire.Fields(b, func(n protowire.Number, v []byte) error {
		switch n {
		case 2:
			var one resource
			_ = wire.Fields(v, func(n protowire.Number, v []byte) error {
				switch n {
				case 1:
					one.version = string(v)
				case 2:
					one.body = anyValue(v)
				case 3:
					one.name = string(v)
				}
				return nil
			})
			r.resources = append(r.resources, one)
		case 4:
			r.typeURL = string(v)
		case 5:
			r.nonce = string(v)
		case 6:
			r.removed = append(r.removed, string(v))
		}
		return nil
	})
	return r, err
}

func anyValue(b []byte) (value []byte) {
	_ = wire.Fields(b, func(n protowire.Number, v []byte) error {
		if n == 2 {
			value = v
		}
		return nil
	})
	return value
}

// dependents remembers, by the content of a cluster or filter chain, the names
// that an Envoy subscribes to because of it. Content repeats across proxies, and
// of a gateway's thousands of chains a change concerns one.
type dependents struct {
	seed  maphash.Seed
	names sync.Map // uint64 -> []string
}

func (d *dependents) of(typeURL string, body []byte) ([]string, error) {
	switch typeURL {
	case typeCluster:
		return d.remembered(body, endpointNames)
	case typeListener:
		return d.routes(body)
	}
	return nil, nil
}

// routes are the tables of a listener: filter_chains 3, default_filter_chain 25.
func (d *dependents) routes(listener []byte) (out []string, err error) {
	err = wire.Fields(listener, func(n protowire.Number, v []byte) error {
		if n != 3 && n != 25 {
			return nil
		}
		names, err := d.remembered(v, routeNames)
		out = append(out, names...)
		return err
	})
	return out, err
}

func (d *dependents) remembered(body []byte, read func([]byte) ([]string, error)) ([]string, error) {
	key := maphash.Bytes(d.seed, body)
	if v, ok := d.names.Load(key); ok {
		return v.([]string), nil
	}
	out, err := read(body)
	if err == nil {
		d.names.Store(key, out)
	}
	return out, err
}

func endpointNames(body []byte) ([]string, error) {
	c := &cluster.Cluster{}
	if err := proto.Unmarshal(body, c); err != nil || c.GetType() != cluster.Cluster_EDS {
		return nil, err
	}
	if n := c.GetEdsClusterConfig().GetServiceName(); n != "" {
		return []string{n}, nil
	}
	return []string{c.GetName()}, nil
}

func routeNames(filterChain []byte) ([]string, error) {
	chain := &listener.FilterChain{}
	if err := proto.Unmarshal(filterChain, chain); err != nil {
		return nil, err
	}
	var out []string
	for _, f := range chain.GetFilters() {
		m := &hcm.HttpConnectionManager{}
		if f.GetTypedConfig().MessageIs(m) {
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				return nil, err
			}
			if n := m.GetRds().GetRouteConfigName(); n != "" {
				out = append(out, n)
			}
		}
	}
	return out, nil
}
