package judge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// source gives the control plane one configuration after another.
type source struct {
	texts chan []file.Text
	given map[config.Key]bool
	pods  func(pod config.Key, labels map[string]string) []string
}

// Run implements discovery.Source.
func (s *source) Run(ctx context.Context, store *discovery.Store) error {
	synced := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case texts := <-s.texts:
			changes, problems := file.Objects(texts, s.pods, nil)
			now := map[config.Key]bool{}
			for _, c := range changes {
				now[c.Object.Meta.Key] = true
			}
			for k := range s.given {
				if !now[k] {
					changes = append(changes, discovery.Change{Deleted: true, Object: discovery.Object{Meta: config.Meta{Key: k}}})
				}
			}
			s.given = now
			store.Replace(file.Name, changes, problems)
			if !synced {
				store.Synced(file.Name)
				synced = true
			}
		}
	}
}

// stage is a sidecar and a gateway, real ones, with servers behind them.
type stage struct {
	t       *testing.T
	plane   *serve.Plane
	source  *source
	proxies map[string]*proxy // by side: outbound, gateway
	pods    map[string]string // address by pod's workload
	range3  string            // 127.n, the machine's range of this stage
	count   int
}

// proxy is one real Envoy, and how to ask the simulator about it.
type proxy struct {
	node   agent.Node
	listen netip.Addr
}

const (
	portBase = 10000
	appPort  = 28080
	rawPort  = 28081 // says who it is to whatever comes

	requestTimeout = 10 * time.Second
)

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, pods: map[string]string{}, proxies: map[string]*proxy{}}
	s.claim()
	s.source = &source{texts: make(chan []file.Text), pods: func(pod config.Key, labels map[string]string) []string {
		return []string{s.pods[labels["app"]+"-"+labels["version"]]}
	}}
	for i, w := range workloads {
		addr := fmt.Sprintf("%s.%d.1", s.range3, 10+i)
		s.pods[w.app+"-"+w.version] = addr
		s.serve(netip.MustParseAddr(addr))
	}
	s.startPlane()
	return s
}

// claim takes a range of loopback addresses that nobody else uses, as package
// up does.
func (s *stage) claim() {
	for n := 250; n > 64; n-- {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.%d.255.254:15999", n))
		if err != nil {
			continue
		}
		s.t.Cleanup(func() { _ = l.Close() })
		s.range3 = fmt.Sprintf("127.%d", n)
		return
	}
	s.t.Fatal("no free range of loopback addresses")
}

// reached is what a server says about the request that it got.
type reached struct {
	Address string
	Method  string
	Path    string
	Host    string
	Header  http.Header
}

func (s *stage) serve(addr netip.Addr) {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(addr, appPort).String())
	if err != nil {
		s.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-upstream", "yes")
		_ = json.NewEncoder(w).Encode(reached{l.Addr().String(), r.Method, r.RequestURI, r.Host, r.Header})
	})}
	go func() { _ = srv.Serve(l) }()
	s.t.Cleanup(func() { _ = srv.Close() })
	s.serveRaw(addr)
}

func (s *stage) startPlane() {
	o := snapshot.Options{Authorize: serve.Authorize}
	s.plane = serve.NewPlane([]serve.NamedSource{{Name: file.Name, Source: s.source}}, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.plane.Run(ctx)
	}()
	socket := filepath.Join(s.t.TempDir(), "xds.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		s.t.Fatal(err)
	}
	g := grpc.NewServer(o.GRPC()...)
	s.plane.Server.Register(g)
	go func() { _ = g.Serve(l) }()
	s.t.Cleanup(func() {
		g.Stop()
		cancel()
		<-done
		s.plane.Server.Close()
	})
	s.startEnvoy("outbound", 1, config.Sidecar, map[string]string{"app": "client"}, socket)
	s.startEnvoy("gateway", 2, config.Router, map[string]string{"istio": "ingressgateway"}, socket)
}

func (s *stage) startEnvoy(name string, third int, kind config.ProxyType, labels map[string]string, ads string) {
	at := fmt.Sprintf("%s.%d.1", s.range3, third)
	p := &proxy{listen: netip.MustParseAddr(at).Next(), node: agent.Node{
		Type: string(kind), IPs: []string{at}, Name: name, Namespace: "a", DomainSuffix: "cluster.local", Labels: labels,
		ClusterID: "Kubernetes", Interception: string(config.NoneMode),
		Local: &agent.LocalAddresses{OwnResolver: true, Outbound: netip.MustParseAddr(at).Next().String(), PortBase: portBase},
	}}
	s.proxies[name] = p
	b := agent.Bootstrap{
		Node: p.node, Discovery: agent.Address{Path: ads}, DNS: agent.Address{Host: "127.0.0.1", Port: 9},
		Admin: agent.Address{Path: filepath.Join(s.t.TempDir(), "admin.sock")}, StaticHost: at,
	}
	js, err := b.JSON()
	if err != nil {
		s.t.Fatal(err)
	}
	envoytest.Start(s.t, js)
}

// mesh is the configuration in effect: what waits for what it names is not.
func (s *stage) mesh() *config.Mesh { return s.plane.Cache.Mesh() }

// meshOf is a configuration that no Envoy has.
func (s *stage) meshOf(docs string) *config.Mesh {
	store := discovery.NewStore(nil, file.Name)
	changes, problems := file.Objects([]file.Text{{Name: "judge.yaml", Data: []byte(whole(docs, 0))}}, s.source.pods, nil)
	store.Replace(file.Name, changes, problems)
	store.Synced(file.Name)
	return store.Mesh()
}

// sidesOf is what the simulator is asked about the proxies, by their names.
func (s *stage) sidesOf(mesh *config.Mesh) map[string]*simulate.Config {
	ix, tr := translate.NewIndex(mesh), translate.NewTranslator(1000)
	out := map[string]*simulate.Config{}
	for name, p := range s.proxies {
		out[name] = p.side(mesh, ix, tr)
	}
	return out
}

func (p *proxy) side(mesh *config.Mesh, ix *translate.Index, tr *translate.Translator) *simulate.Config {
	n := &p.node
	proxy := &config.Proxy{
		Type: config.ProxyType(n.Type), IPs: n.IPs, Name: n.Name, Namespace: n.Namespace, DNSDomain: n.Namespace + ".svc." + n.DomainSuffix,
		Labels: n.Labels, Cluster: n.ClusterID, Interception: config.NoneMode,
		Local: &config.LocalAddresses{Outbound: n.Local.Outbound, PortBase: n.Local.PortBase, OwnResolver: true},
	}
	var parts []*simulate.Part
	for _, c := range ix.Classes(proxy) {
		parts = append(parts, simulate.NewPart(tr.Translate(ix.Scope(c))))
	}
	viewer := translate.ViewerOf(proxy)
	return simulate.NewConfig(func(cluster string) *translate.Resource {
		for _, part := range parts {
			specs := part.Resources().Endpoints
			for i := range specs {
				if specs[i].Cluster == cluster {
					eps, _ := mesh.Endpoints.Get(specs[i].Service.Namespace, specs[i].Service.Hostname)
					return tr.Endpoints(&specs[i], eps, viewer)
				}
			}
		}
		return nil
	}, parts...)
}

// marker is a host that answers which configuration is in effect.
const marker = "marker.judge.test"

// whole is a configuration with what all have in common, and its number. It
// may have settings of the mesh of its own.
func whole(docs string, number int) string {
	settings := texts([]object{meshConfig("")})
	if strings.Contains(docs, "kind: ConfigMap") {
		settings = ""
	}
	return base + settings + "---\n" + docs + fmt.Sprintf(markers, number, number)
}

// put makes a configuration the one in effect.
func (s *stage) put(docs string) {
	s.t.Helper()
	s.count++
	s.source.texts <- []file.Text{{Name: "judge.yaml", Data: []byte(whole(docs, s.count))}}
	for name := range s.proxies {
		want := fmt.Sprint("config ", s.count)
		envoytest.Eventually(s.t, 30*time.Second, func() string {
			a, err := s.send(&asked{Side: name, HTTP: &simulate.HTTP{Method: http.MethodGet, Authority: marker, Path: "/"}})
			if err != nil {
				return err.Error()
			}
			if a.body != want {
				return fmt.Sprintf("%s answers %d %q, want %q; problems %v", name, a.status, a.body, want, s.plane.Problems())
			}
			return ""
		})
	}
}

// putAnew is put without anything in effect that could stay.
func (s *stage) putAnew(docs string) {
	s.t.Helper()
	s.put("")
	s.put(docs)
}

// answer is a real Envoy's.
type answer struct {
	status int
	header http.Header
	body   string
	server *reached // nil if Envoy answered itself
}

// address is where a question goes: privileged ports are bound elsewhere.
func (s *stage) address(q *asked) netip.AddrPort {
	port := q.port()
	if port < 1024 {
		port += portBase
	}
	return netip.AddrPortFrom(s.proxies[q.Side].listen, uint16(port)) //nolint:gosec // a port
}

func (s *stage) dial(q *asked) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp4", s.address(q).String(), requestTimeout)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(requestTimeout))
	}
	return conn, err
}

// ask sends what the simulator is asked about.
func (s *stage) ask(q *asked) (*answer, error) {
	if q.HTTP == nil {
		return s.connect(q)
	}
	return s.send(q)
}

// send sends a request to a proxy's port as the simulator's request says.
func (s *stage) send(q *asked) (*answer, error) {
	conn, err := s.dial(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	h := q.HTTP
	// Written by hand, so that the path is sent as it is.
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n", h.Method, h.Path, h.Authority)
	for _, f := range h.Header {
		fmt.Fprintf(&text, "%s: %s\r\n", f.Name, f.Value)
	}
	if h.Claims != nil {
		token, err := issuer.Token(h.Claims)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, "authorization: Bearer %s\r\n", token)
	}
	if _, err := io.WriteString(conn, text.String()+"\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: h.Method})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if strings.HasPrefix(a.body, `{"Address"`) {
		a.server = &reached{}
		if err := json.Unmarshal(b, a.server); err != nil {
			return nil, fmt.Errorf("%q: %w", b, err)
		}
	}
	return a, nil
}

// simulated is the simulator's answer to the same.
func (s *stage) simulated(c *simulate.Config, q *asked) *simulate.Hop {
	at := s.address(q)
	conn := &simulate.Conn{Destination: at, Source: netip.MustParseAddr("127.0.0.1"), TLS: q.TLS}
	if q.HTTP != nil {
		copied := *q.HTTP
		conn.HTTP = &copied
	}
	return c.Ask(uint32(at.Port()), conn)
}
