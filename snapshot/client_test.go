package snapshot_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

const (
	cds  = translate.ClusterType
	eds  = translate.EndpointType
	lds  = translate.ListenerType
	rds  = translate.RouteType
	ecds = translate.ExtensionType
	sds  = translate.SecretType
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func node(name string) *core.Node { return nodeIn(name, "default") }

func nodeIn(name, namespace string) *core.Node {
	md, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": namespace, "LABELS": map[string]any{"app": "web"}, "ISTIO_VERSION": "1.31.0",
	})
	if err != nil {
		panic(err)
	}
	return &core.Node{Id: "sidecar~10.0.0.1~" + name + "." + namespace + "~" + namespace + ".svc.cluster.local", Metadata: md}
}

// received is what a client got in one response, of either protocol.
type received struct {
	url, nonce, version string
	names               []string
	versions            map[string]string // delta
	bodies              map[string][]byte
	removed             []string
	size                int // of the whole response, in bytes
}

// String is "cds +a +b -c", the form in which tests expect responses.
func (r *received) String() string {
	if r == nil {
		return "nothing"
	}
	out := []string{short(r.url)}
	for _, n := range slices.Sorted(slices.Values(r.names)) {
		out = append(out, "+"+n)
	}
	for _, n := range slices.Sorted(slices.Values(r.removed)) {
		out = append(out, "-"+n)
	}
	return strings.Join(out, " ")
}

func short(url string) string {
	switch url {
	case cds:
		return "cds"
	case eds:
		return "eds"
	case lds:
		return "lds"
	case rds:
		return "rds"
	case ecds:
		return "ecds"
	case sds:
		return "sds"
	}
	return url
}

// client is a test's xDS client: it does what it is told and nothing else.
type client struct {
	t      testing.TB
	isSotW bool
	node   *core.Node
	cancel context.CancelFunc
	delta  discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	sotw   discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	got    chan *received
	err    chan error
	names  map[string][]string // sotw: what the next request of a type lists
	last   map[string]*received
	has    map[string]string // sotw: the version that it accepted last, by type
}

func (s *served) delta(name string) *client { return s.client(name, false) }
func (s *served) sotw(name string) *client  { return s.client(name, true) }

func (s *served) client(name string, isSotW bool) *client {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{
		t: s.t, isSotW: isSotW, node: node(name), cancel: cancel, got: make(chan *received, 1000),
		err: make(chan error, 1), names: map[string][]string{}, last: map[string]*received{}, has: map[string]string{},
	}
	cc := s.connection()
	c.cancel = func() {
		s.mu.Lock()
		delete(s.clients, c)
		s.mu.Unlock()
		cancel()
		_ = cc.Close()
	}
	s.mu.Lock()
	s.clients[c] = struct{}{} // no Cleanup of its own: a soak makes thousands
	s.mu.Unlock()
	ads := discovery.NewAggregatedDiscoveryServiceClient(cc)
	var err error
	if isSotW {
		c.sotw, err = ads.StreamAggregatedResources(ctx)
	} else {
		c.delta, err = ads.DeltaAggregatedResources(ctx)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	go c.receive()
	return c
}

func (c *client) receive() {
	for {
		var r *received
		var err error
		if c.isSotW {
			r, err = c.receiveSotW()
		} else {
			r, err = c.receiveDelta()
		}
		if err != nil {
			c.err <- err
			return
		}
		c.got <- r
	}
}

func (c *client) receiveDelta() (*received, error) {
	m, err := c.delta.Recv()
	if err != nil {
		return nil, err
	}
	r := &received{
		url: m.TypeUrl, nonce: m.Nonce, version: m.SystemVersionInfo, removed: m.RemovedResources,
		versions: map[string]string{}, bodies: map[string][]byte{}, size: proto.Size(m),
	}
	for _, x := range m.Resources {
		if x.Resource.TypeUrl != m.TypeUrl {
			return nil, fmt.Errorf("a %s among %s", x.Resource.TypeUrl, m.TypeUrl)
		}
		r.names = append(r.names, x.Name)
		r.versions[x.Name] = x.Version
		r.bodies[x.Name] = x.Resource.Value
	}
	return r, nil
}

func (c *client) receiveSotW() (*received, error) {
	m, err := c.sotw.Recv()
	if err != nil {
		return nil, err
	}
	r := &received{url: m.TypeUrl, nonce: m.Nonce, version: m.VersionInfo, bodies: map[string][]byte{}, size: proto.Size(m)}
	for _, x := range m.Resources {
		name, err := nameOf(x.TypeUrl, x.Value)
		if err != nil {
			return nil, err
		}
		r.names = append(r.names, name)
		r.bodies[name] = x.Value
	}
	return r, nil
}

// subscribe asks for names of a type, for everything if there are none.
func (c *client) subscribe(url string, names ...string) {
	c.t.Helper()
	if !c.isSotW {
		c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names})
		return
	}
	c.names[url] = append(slices.Clone(c.names[url]), names...)
	c.state(url, nil)
}

func (c *client) unsubscribe(url string, names ...string) {
	c.t.Helper()
	if !c.isSotW {
		c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesUnsubscribe: names})
		return
	}
	c.names[url] = slices.DeleteFunc(slices.Clone(c.names[url]), func(n string) bool { return slices.Contains(names, n) })
	c.state(url, nil)
}

// resume opens a type after a reconnect, with the versions that the client
// has.
func (c *client) resume(url string, versions map[string]string, names ...string) {
	c.t.Helper()
	c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names, InitialResourceVersions: versions})
}

func (c *client) send(r *discovery.DeltaDiscoveryRequest) {
	c.t.Helper()
	if c.node != nil {
		r.Node, c.node = c.node, nil
	}
	if err := c.delta.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

// subscribeQuietly is subscribe on a stream that may have ended.
func (c *client) subscribeQuietly(url string, names ...string) {
	n := c.node
	c.node = nil
	if c.isSotW {
		_ = c.sotw.Send(&discovery.DiscoveryRequest{Node: n, TypeUrl: url, ResourceNames: names})
		return
	}
	_ = c.delta.Send(&discovery.DeltaDiscoveryRequest{Node: n, TypeUrl: url, ResourceNamesSubscribe: names})
}

// state sends the SotW request that says what the client has and wants.
func (c *client) state(url string, err *rpc.Status) {
	c.t.Helper()
	r := &discovery.DiscoveryRequest{TypeUrl: url, ResourceNames: c.names[url], ErrorDetail: err, Node: c.node}
	c.node = nil
	if l := c.last[url]; l != nil {
		r.ResponseNonce, r.VersionInfo = l.nonce, c.has[url]
	}
	if err := c.sotw.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

// recv waits for the next response, nil if none comes.
func (c *client) recv() *received {
	c.t.Helper()
	select {
	case r := <-c.got:
		c.last[r.url] = r
		return r
	case err := <-c.err:
		c.t.Fatalf("the stream ended: %v", err)
	case <-time.After(patience):
		c.t.Fatal("no response")
	}
	return nil
}

// expect waits for the next response and compares it: "cds +a -b".
func (c *client) expect(want string) *received {
	c.t.Helper()
	r := c.recv()
	if r.String() != want {
		c.t.Fatalf("got %v, want %s", r, want)
	}
	return r
}

func (c *client) ack(r *received) {
	c.t.Helper()
	if c.isSotW {
		c.last[r.url], c.has[r.url] = r, r.version
		c.state(r.url, nil)
		return
	}
	c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce})
}

func (c *client) nack(r *received, text string) {
	c.t.Helper()
	detail := &rpc.Status{Code: int32(codes.InvalidArgument), Message: text}
	if c.isSotW {
		c.last[r.url] = r
		c.state(r.url, detail)
		return
	}
	c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce, ErrorDetail: detail})
}

// take expects a response and acknowledges it.
func (c *client) take(want string) *received {
	c.t.Helper()
	r := c.expect(want)
	c.ack(r)
	return r
}

// quiet proves that the server has nothing to send: the answer to a question
// comes next, twice, since what is sent is decided anew after each answer.
func (c *client) quiet() {
	c.t.Helper()
	for range 2 {
		name := fmt.Sprintf("nothing-%d", time.Now().UnixNano())
		c.subscribe(ecds, name)
		if c.isSotW {
			c.take("ecds")
		} else {
			c.take("ecds -" + name)
		}
	}
}

// quietOr takes that response, or proves that there is none. For what the
// protocol leaves to the server.
func (c *client) quietOr(want string) {
	c.t.Helper()
	name := fmt.Sprintf("nothing-%d", time.Now().UnixNano())
	c.subscribe(ecds, name)
	for range 2 {
		r := c.recv()
		c.ack(r)
		switch {
		case r.url == ecds:
			c.quiet()
			return
		case r.String() != want:
			c.t.Fatalf("got %v, want %s or nothing", r, want)
		}
	}
}

// catchUp acknowledges whatever comes until the server has nothing to send.
func (c *client) catchUp() {
	c.t.Helper()
	for calm := 0; calm < 2; calm++ {
		c.subscribe(ecds, fmt.Sprintf("nothing-%d", time.Now().UnixNano()))
		for {
			r := c.recv()
			c.ack(r)
			if r.url == ecds {
				break
			}
			calm = -1
		}
	}
}

// ended waits for the stream's end and returns its error.
func (c *client) ended() error {
	c.t.Helper()
	for {
		select {
		case <-c.got:
		case err := <-c.err:
			return err
		case <-time.After(patience):
			c.t.Fatal("the stream did not end")
		}
	}
}

// start brings a client to what Envoy has after its start: all clusters,
// their endpoints, all listeners and the named routes.
func (c *client) start(clusters, routes []string, listeners ...string) {
	c.t.Helper()
	plus := func(kind string, names []string) string {
		out := kind
		for _, n := range slices.Sorted(slices.Values(names)) {
			out += " +" + n
		}
		return out
	}
	c.subscribe(cds)
	c.take(plus("cds", clusters))
	if len(clusters) > 0 {
		c.subscribe(eds, clusters...)
		c.take(plus("eds", clusters))
	}
	c.subscribe(lds)
	c.take(plus("lds", listeners))
	if len(routes) > 0 {
		c.subscribe(rds, routes...)
		c.take(plus("rds", routes))
	}
}

func set(m map[string]int, names ...string) {
	for _, n := range names {
		m[n] = 1
	}
}
