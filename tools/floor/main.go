// Command floor is a peer for `make bench`: go-control-plane's server and
// snapshot cache, which translate nothing. What it serves it mirrors from the
// control plane that UPSTREAM starts, one mirror for each namespace, so that its
// cost is what that library takes to carry resources of the same kind and number
// to the same proxies.
//
// It reads XDS_ADDRESS, where to listen, and UPSTREAM, a shell command that finds
// an XDS_ADDRESS of its own in its environment beside what floor was given.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address, command := os.Getenv("XDS_ADDRESS"), os.Getenv("UPSTREAM")
	if address == "" || command == "" {
		return errors.New("XDS_ADDRESS and UPSTREAM are needed")
	}
	upstream, err := startUpstream(ctx, command)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(upstream, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	f := &floor{
		ctx: ctx, upstream: discovery.NewAggregatedDiscoveryServiceClient(conn),
		cache: cache.NewSnapshotCache(true, byNamespace{}, nil), mirrors: map[string]*mirror{},
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	discovery.RegisterAggregatedDiscoveryServiceServer(g, server.NewServer(ctx, f.cache, server.CallbackFuncs{
		StreamRequestFunc:      func(_ int64, r *discovery.DiscoveryRequest) error { return f.provide(r.GetNode()) },
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error { return f.provide(r.GetNode()) },
	}))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() { <-ctx.Done(); g.Stop() }()
	return g.Serve(l)
}

// startUpstream starts the command on a free port; it ends with ctx.
func startUpstream(ctx context.Context, command string) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+command)
	c.Env = append(os.Environ(), "XDS_ADDRESS="+address)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return address, c.Start()
}

// byNamespace makes proxies of one namespace share a snapshot.
type byNamespace struct{}

func (byNamespace) ID(n *core.Node) string {
	return n.GetMetadata().GetFields()["NAMESPACE"].GetStringValue()
}

type floor struct {
	ctx      context.Context
	upstream discovery.AggregatedDiscoveryServiceClient
	cache    cache.SnapshotCache

	mu      sync.Mutex
	mirrors map[string]*mirror
}

// provide waits until the snapshot of a node's namespace is there. node is nil on
// all but the first request of a stream.
func (f *floor) provide(node *core.Node) error {
	if node == nil {
		return nil
	}
	key := byNamespace{}.ID(node)
	f.mu.Lock()
	m := f.mirrors[key]
	if m == nil {
		m = &mirror{floor: f, key: key, ready: make(chan struct{}), have: map[string]map[string]types.Resource{}, subscribed: map[string]bool{}}
		f.mirrors[key] = m
		go m.run(node)
	}
	f.mu.Unlock()
	select {
	case <-m.ready:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// mirror follows what one proxy is served.
type mirror struct {
	floor      *floor
	key        string
	ready      chan struct{}
	have       map[string]map[string]types.Resource // by type and name
	subscribed map[string]bool                      // endpoints and routes
	serial     int
	snapshot   cache.Snapshot
}

// kinds are the types that are mirrored, with their place in a Snapshot.
var kinds = map[string]types.ResponseType{
	resource.ClusterType: types.Cluster, resource.EndpointType: types.Endpoint,
	resource.ListenerType: types.Listener, resource.RouteType: types.Route,
}

func (m *mirror) run(node *core.Node) {
	if err := m.follow(node); err != nil && m.floor.ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "floor: mirror of %s: %v\n", m.key, err)
		os.Exit(1)
	}
}

func (m *mirror) follow(node *core.Node) error {
	stream, err := m.floor.upstream.DeltaAggregatedResources(m.floor.ctx)
	if err != nil {
		return err
	}
	for _, r := range []*discovery.DeltaDiscoveryRequest{{Node: node, TypeUrl: resource.ClusterType}, {TypeUrl: resource.ListenerType}} {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
			return err
		}
		if err := m.take(stream, r); err != nil {
			return err
		}
	}
}

// take brings a response into the snapshot.
func (m *mirror) take(stream grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse], r *discovery.DeltaDiscoveryResponse) error {
	have := m.have[r.GetTypeUrl()]
	if have == nil {
		have = map[string]types.Resource{}
		m.have[r.GetTypeUrl()] = have
	}
	asked := map[string][]string{}
	for _, one := range r.GetResources() {
		v, err := one.GetResource().UnmarshalNew()
		if err != nil {
			return err
		}
		have[one.GetName()] = v
		typeURL, names := pointsTo(v)
		for _, n := range names {
			if !m.subscribed[typeURL+n] {
				m.subscribed[typeURL+n] = true
				asked[typeURL] = append(asked[typeURL], n)
			}
		}
	}
	for _, n := range r.GetRemovedResources() {
		delete(have, n)
	}
	for typeURL, names := range asked {
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names}); err != nil {
			return err
		}
	}
	return m.publish(r.GetTypeUrl())
}

// publish puts what is there of a type into service.
func (m *mirror) publish(typeURL string) error {
	kind, ok := kinds[typeURL]
	if !ok {
		return nil
	}
	m.serial++
	next := m.snapshot
	var list []types.Resource
	for _, v := range m.have[typeURL] {
		list = append(list, v)
	}
	next.Resources[kind] = cache.NewResources(fmt.Sprint(m.serial), list)
	next.VersionMap = nil
	m.snapshot = next
	if len(m.have) < len(kinds) {
		return nil
	}
	if err := m.floor.cache.SetSnapshot(m.floor.ctx, m.key, &next); err != nil {
		return err
	}
	select {
	case <-m.ready:
	default:
		close(m.ready)
	}
	return nil
}

// pointsTo are the names that a resource makes a client subscribe to.
func pointsTo(v proto.Message) (typeURL string, names []string) {
	switch v := v.(type) {
	case *cluster.Cluster:
		if v.GetType() != cluster.Cluster_EDS {
			return "", nil
		}
		if n := v.GetEdsClusterConfig().GetServiceName(); n != "" {
			return resource.EndpointType, []string{n}
		}
		return resource.EndpointType, []string{v.GetName()}
	case *listener.Listener:
		for _, chain := range append(v.GetFilterChains(), v.GetDefaultFilterChain()) {
			for _, f := range chain.GetFilters() {
				m := &hcm.HttpConnectionManager{}
				if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil && m.GetRds() != nil {
					names = append(names, m.GetRds().GetRouteConfigName())
				}
			}
		}
		return resource.RouteType, names
	}
	return "", nil
}
