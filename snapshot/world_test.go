package snapshot_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// content is what a synthetic mesh serves to the sidecars of every namespace:
// by name, a number that stands for the resource's content.
type content struct {
	clusters, listeners, routes map[string]int
	inbound                     map[string]int // clusters of the inbound class
	refs                        map[string]translate.Refs
}

func (c content) clone() content {
	return content{
		maps.Clone(c.clusters), maps.Clone(c.listeners), maps.Clone(c.routes),
		maps.Clone(c.inbound), maps.Clone(c.refs),
	}
}

// world publishes meshes whose resources a test makes up. It is the Source
// and the Meshes of the servers under test.
type world struct {
	t       testing.TB
	changed chan struct{}
	servers []*served // those that run: a soak makes thousands
	// cluster, listener and route make a resource of its name and number.
	cluster, listener, route func(name string, v int) proto.Message

	mu       sync.Mutex
	mesh     *config.Mesh
	contents map[*config.Mesh]content
	edits    int
	made     map[translate.Class]int // translations
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, changed: make(chan struct{}, 1), cluster: clusterOf, listener: listenerOf, route: routeOf,
		contents: map[*config.Mesh]content{}, made: map[translate.Class]int{},
	}
	w.contents[nil] = content{
		map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}, map[string]translate.Refs{},
	}
	t.Cleanup(func() {
		for _, s := range slices.Backward(slices.Clone(w.servers)) {
			s.stop()
		}
	})
	return w
}

func (w *world) Mesh() *config.Mesh {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mesh
}

// forget drops the contents of all Meshes but the newest, which every Cache
// must have in service.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.contents = map[*config.Mesh]content{w.mesh: w.contents[w.mesh]}
}

// now is the content in service.
func (w *world) now() content {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.contents[w.mesh]
}

func (w *world) Changed() <-chan struct{} { return w.changed }

// edit publishes a Mesh with changed content.
func (w *world) edit(f func(c *content)) { w.put("", "", f) }

// put is edit, and gives one cluster an endpoint in the same step.
func (w *world) put(name, endpoint string, f func(c *content)) {
	w.mu.Lock()
	next := w.contents[w.mesh].clone()
	f(&next)
	w.edits++
	b := config.NewBuilder(w.mesh)
	vs := &config.VirtualService{Meta: config.Meta{Key: config.Key{
		Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "edit"}}}
	vs.Hash = config.NewHasher().Uint(uint64(w.edits)).Sum()
	config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, vs)
	for name := range next.clusters {
		id := config.ServiceID{Hostname: name, Namespace: "default"}
		if w.mesh != nil {
			if _, ok := w.mesh.Endpoints.Get("default", name); ok {
				continue
			}
		}
		config.Put(b, endpointsOf, &config.Endpoints{ID: id, Hash: config.NewHasher().Str(name).Sum()})
	}
	if name != "" {
		config.Put(b, endpointsOf, endpointsAt(name, endpoint))
	}
	w.mesh = b.Mesh()
	w.contents[w.mesh] = next
	w.mu.Unlock()
	w.tell()
}

func endpointsOf(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }

// endpoints publishes a Mesh in which only a cluster's endpoints differ.
func (w *world) endpoints(name string, addresses ...string) {
	w.mu.Lock()
	b := config.NewBuilder(w.mesh)
	config.Put(b, endpointsOf, endpointsAt(name, addresses...))
	old := w.contents[w.mesh]
	w.mesh = b.Mesh()
	w.contents[w.mesh] = old
	w.mu.Unlock()
	w.tell()
}

// endpointsAt are a cluster's endpoints at addresses with or without a port.
func endpointsAt(name string, addresses ...string) *config.Endpoints {
	e := &config.Endpoints{ID: config.ServiceID{Hostname: name, Namespace: "default"}, ByPort: map[string][]config.Endpoint{}}
	for _, a := range addresses {
		port := uint64(80)
		if host, p, err := net.SplitHostPort(a); err == nil {
			a = host
			if port, err = strconv.ParseUint(p, 10, 16); err != nil {
				panic(err)
			}
		}
		e.ByPort["http"] = append(e.ByPort["http"], config.Endpoint{Address: a, Port: uint32(port)})
	}
	e.Hash = config.NewHasher().Str(addresses...).Sum()
	return e
}

// tell says that there is a new Mesh, and waits until it is in service.
func (w *world) tell() {
	for _, s := range w.servers {
		for end := time.Now().Add(patience); s.cache.Mesh() != w.Mesh(); {
			select {
			case w.changed <- struct{}{}:
			default:
			}
			if time.Now().After(end) {
				w.t.Fatal("the mesh was not taken into service")
			}
			runtime.Gosched()
		}
	}
}

// Arrange implements snapshot.Source.
func (w *world) Arrange(m *config.Mesh) snapshot.Arrangement {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &arranged{w, w.contents[m]}
}

// Endpoints implements snapshot.Source.
func (w *world) Endpoints(spec *translate.EndpointSpec, eps *config.Endpoints, _ translate.Viewer) *translate.Resource {
	a := &endpoint.ClusterLoadAssignment{ClusterName: spec.Cluster}
	if eps != nil {
		for _, e := range eps.ByPort["http"] {
			a.Endpoints = append(a.Endpoints, &endpoint.LocalityLbEndpoints{LbEndpoints: []*endpoint.LbEndpoint{{
				HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address(e.Address, e.Port)}},
			}}})
		}
	}
	return resource(spec.Cluster, a, translate.Refs{})
}

// Secret implements snapshot.Source: every Secret of the proxy's own
// namespace, as its text.
func (w *world) Secret(m *config.Mesh, reader translate.Reader, name string) (*translate.Resource, []config.Problem) {
	s, ok := m.Secrets.Get(reader.Namespace, strings.TrimPrefix(name, "kubernetes://"))
	if !ok {
		return nil, []config.Problem{config.At(&config.Meta{Key: config.Key{Kind: "Secret", Namespace: reader.Namespace, Name: name}},
			"", config.Error, "SecretNotFound", "there is none")}
	}
	return resource(name, &tls.Secret{Name: name, Type: &tls.Secret_GenericSecret{GenericSecret: &tls.GenericSecret{
		Secret: &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: s.Data["key"]}},
	}}}, translate.Refs{}), nil
}

// secret publishes a Mesh with another content of a Secret, without it if
// key is empty.
func (w *world) secret(name, key string) {
	w.mu.Lock()
	b := config.NewBuilder(w.mesh)
	index := func(m *config.Mesh) *config.Index[*config.Secret] { return &m.Secrets }
	if key == "" {
		config.Remove(b, index, "default", name)
	} else {
		s := &config.Secret{Data: map[string][]byte{"key": []byte(key)}}
		s.Key = config.Key{Kind: "Secret", Namespace: "default", Name: name}
		s.Hash = config.NewHasher().Str(name, key).Sum()
		config.Put(b, index, s)
	}
	old := w.contents[w.mesh]
	w.mesh = b.Mesh()
	w.contents[w.mesh] = old
	w.mu.Unlock()
	w.tell()
}

func address(ip string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: ip, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

type arranged struct {
	w *world
	c content
}

func (a *arranged) Classes(p *config.Proxy) []translate.Class {
	return []translate.Class{
		{Side: translate.Outbound, Namespace: p.Namespace},
		{Side: translate.Inbound, Namespace: p.Namespace, Labels: p.Labels["app"]},
	}
}

func (a *arranged) Gather(class translate.Class) (config.Hash, func() *translate.Resources) {
	h := config.NewHasher().Uint(uint64(class.Side)).Str(class.Namespace, class.Labels)
	tables := []map[string]int{a.c.inbound}
	if class.Side == translate.Outbound {
		tables = []map[string]int{a.c.clusters, a.c.listeners, a.c.routes}
	}
	for _, t := range tables {
		h.Uint(uint64(len(t)))
		for _, name := range slices.Sorted(maps.Keys(t)) {
			h.Str(name).Uint(uint64(t[name]))
		}
	}
	key := h.Sum()
	return key, func() *translate.Resources {
		a.w.mu.Lock()
		a.w.made[class]++
		a.w.mu.Unlock()
		return a.translate(class, key)
	}
}

func (a *arranged) translate(class translate.Class, key config.Hash) *translate.Resources {
	out := &translate.Resources{Key: key}
	var cs, ls, rs []*translate.Resource
	add := func(t map[string]int, to *[]*translate.Resource, make func(name string, v int) proto.Message) {
		for _, name := range slices.Sorted(maps.Keys(t)) {
			*to = append(*to, resource(name, make(name, t[name]), a.c.refs[name]))
		}
	}
	if class.Side == translate.Inbound {
		add(a.c.inbound, &cs, a.w.cluster)
	} else {
		add(a.c.clusters, &cs, a.w.cluster)
		add(a.c.listeners, &ls, a.w.listener)
		add(a.c.routes, &rs, a.w.route)
		for _, r := range cs {
			spec := translate.EndpointSpec{Cluster: r.Name, Service: config.ServiceID{Hostname: r.Name, Namespace: "default"}}
			spec.Hash = config.NewHasher().Str(r.Name).Sum()
			out.Endpoints = append(out.Endpoints, spec)
		}
	}
	out.Clusters, out.Listeners, out.Routes = translate.NewSet(cs), translate.NewSet(ls), translate.NewSet(rs)
	return out
}

func clusterOf(name string, v int) proto.Message {
	return &cluster.Cluster{Name: name, ConnectTimeout: durationpb.New(time.Duration(v) * time.Second)}
}

func listenerOf(name string, v int) proto.Message {
	return &listener.Listener{Name: name, StatPrefix: fmt.Sprint(v)}
}

func routeOf(name string, v int) proto.Message {
	return &route.RouteConfiguration{Name: name, VirtualHosts: []*route.VirtualHost{{Name: fmt.Sprint(v), Domains: []string{"*"}}}}
}

// resource encodes a message as a resource that a VirtualService of its name
// made.
func resource(name string, m proto.Message, refs translate.Refs) *translate.Resource {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return &translate.Resource{
		Name: name, Version: config.NewHasher().Bytes(b).Sum(), Body: [][]byte{b}, Refs: refs,
		Sources: []*config.Meta{{
			Key: config.Key{Kind: "VirtualService", Namespace: "default", Name: name}, File: name + ".yaml", Line: 7,
		}},
	}
}

// served is a Server under test on a loopback connection.
type served struct {
	t      testing.TB
	world  *world
	cache  *snapshot.Cache
	server *snapshot.Server
	grpc   *grpc.Server
	addr   string

	stopCache func()

	mu      sync.Mutex
	clients map[*client]struct{}
	options snapshot.Options
}

// serve starts a Server over the world and stops it when the test ends.
func serve(t testing.TB, w *world, o snapshot.Options) *served {
	t.Helper()
	s := run(t, w, w, o)
	s.world = w
	w.servers = append(w.servers, s)
	return s
}

// serveFrom is serve without a world.
func serveFrom(t testing.TB, source snapshot.Source, meshes snapshot.Meshes, o snapshot.Options) *served {
	t.Helper()
	s := run(t, source, meshes, o)
	t.Cleanup(s.stop)
	return s
}

func run(t testing.TB, source snapshot.Source, meshes snapshot.Meshes, o snapshot.Options) *served {
	t.Helper()
	s := &served{t: t, cache: snapshot.NewCache(source), clients: map[*client]struct{}{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.cache.Run(ctx, meshes)
	}()
	s.options = o
	s.addr = "127.0.0.1:0"
	s.listen()
	s.stopCache = func() {
		cancel()
		<-done
	}
	return s
}

// stop ends the server and its Cache before the test does.
func (s *served) stop() {
	if s.cache == nil {
		return
	}
	if w := s.world; w != nil {
		w.servers = slices.DeleteFunc(w.servers, func(o *served) bool { return o == s })
	}
	s.mu.Lock()
	clients := slices.Collect(maps.Keys(s.clients))
	s.mu.Unlock()
	for _, c := range clients {
		c.cancel()
	}
	s.server.Close()
	s.grpc.Stop()
	s.stopCache()
	s.cache, s.server, s.grpc, s.stopCache = nil, nil, nil, nil
}

// listen starts a Server at s.addr.
func (s *served) listen() {
	s.t.Helper()
	s.server = snapshot.NewServer(s.cache, s.options)
	s.grpc = grpc.NewServer(s.options.GRPC()...)
	s.server.Register(s.grpc)
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	g := s.grpc
	l = s.server.Limit(l)
	go func() { _ = g.Serve(l) }()
}

// restart replaces the Server by a new one at the same address, over the same
// Cache.
func (s *served) restart() {
	s.t.Helper()
	s.grpc.Stop()
	s.server.Close()
	s.listen()
}

// dial connects to the server; the connection ends with the test.
func (s *served) dial() *grpc.ClientConn {
	s.t.Helper()
	cc := s.connection()
	s.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// connection is dial, closed by the caller.
func (s *served) connection() *grpc.ClientConn {
	s.t.Helper()
	cc, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		s.t.Fatal(err)
	}
	return cc
}
