package listeners

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// mesh is a control plane over a folder that the test writes.
type mesh struct {
	t       *testing.T
	store   *discovery.Store
	address string
	server  *snapshot.Server
	objects map[config.Key]bool
	// sotw has proxies ask by the older variant of ADS.
	sotw bool
}

func newMesh(t *testing.T, yaml string) *mesh {
	t.Helper()
	m := &mesh{t: t, store: discovery.NewStore(translate.Check, "test"), objects: map[config.Key]bool{}}
	m.apply(yaml)
	m.store.Synced("test")
	cache := snapshot.NewCache(snapshot.Translation(translate.NewTranslator(1000)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		cache.Run(ctx, m.store)
	}()
	options := snapshot.Options{Authorize: func(context.Context, *config.Proxy) (snapshot.Grant, error) {
		return snapshot.Grant{Secrets: true}, nil
	}}
	server := snapshot.NewServer(cache, options)
	g := grpc.NewServer(options.GRPC()...)
	server.Register(g)
	m.server = server
	l := listen(t)
	m.address = l.Addr().String()
	go func() { _ = g.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		g.Stop()
		cancel()
		<-done
	})
	return m
}

// apply adds or replaces objects.
func (m *mesh) apply(yaml string) {
	m.t.Helper()
	objects, problems := file.Parse("test.yaml", []byte(yaml))
	for _, p := range problems {
		if p.Severity == config.Error {
			m.t.Fatal(p)
		}
	}
	var changes []discovery.Change
	for _, o := range objects {
		changes = append(changes, discovery.Change{Object: o})
	}
	m.store.Apply("test", changes)
}

// remove takes an object away.
func (m *mesh) remove(kind, name string) {
	m.t.Helper()
	m.store.Apply("test", []discovery.Change{{
		Object: discovery.Object{Meta: config.Meta{Key: config.Key{Kind: kind, Namespace: "default", Name: name}}}, Deleted: true,
	}})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

var proxies atomic.Uint32

// proxy starts an Envoy of the mesh and returns the address that stands for
// its pod's own.
func (m *mesh) proxy(kind config.ProxyType, labels map[string]string) string {
	m.t.Helper()
	// Loopback addresses of this process and proxy alone, so that the ports of
	// the configuration are free.
	own := fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>8%60, os.Getpid()%250+1, proxies.Add(1)%250+1)
	host, port, err := net.SplitHostPort(m.address)
	if err != nil {
		m.t.Fatal(err)
	}
	var number uint32
	if _, err := fmt.Sscan(port, &number); err != nil {
		m.t.Fatal(err)
	}
	b := agent.Bootstrap{
		Node: agent.Node{
			Type: string(kind), IPs: []string{own}, Name: "p", Namespace: "default", DomainSuffix: "cluster.local",
			Labels: labels, ClusterID: "Kubernetes", Interception: string(config.NoneMode),
			Local: &agent.LocalAddresses{Outbound: own, App: "127.0.0.1", PortBase: 10000},
		},
		Discovery:  agent.Address{Host: host, Port: number},
		Admin:      agent.Address{Path: filepath.Join(m.t.TempDir(), "admin.sock")},
		StaticHost: own, StateOfTheWorld: m.sotw,
	}
	js, err := b.JSON()
	if err != nil {
		m.t.Fatal(err)
	}
	envoytest.Start(m.t, js)
	return own
}

// eventually calls f until it succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", patience, err)
		}
		<-tick.C
	}
}

// backend is a server that says its name to every connection: at once if it
// speaks first, or else in answer to a line or an HTTP request.
func backend(t *testing.T, name string, speaksFirst bool) (port int) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, name, speaksFirst)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func serve(c net.Conn, name string, speaksFirst bool) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if speaksFirst {
		_, _ = io.WriteString(c, name+"\n")
		return
	}
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		switch {
		case bytes.Contains(got, []byte("\r\n\r\n")):
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s", len(name), name)
			return
		case bytes.HasSuffix(got, []byte("\n")) && !bytes.Contains(got, []byte("HTTP/")):
			_, _ = io.WriteString(c, name+"\n")
			return
		}
		if err != nil {
			return
		}
	}
}

// ask connects, sends say and returns the line that comes back.
func ask(address, say string) (string, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, say); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if len(b) == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSpace(string(b)), err
}

// get requests a host at an address, over TLS if config is given.
func get(address, host string, c *tls.Config) (body string, state *tls.ConnectionState, err error) {
	scheme := "http"
	if c != nil {
		scheme = "https"
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport(address, c)}
	resp, err := client.Get(scheme + "://" + host + "/")
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", resp.TLS, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", resp.TLS, fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return string(b), resp.TLS, nil
}

// transport takes every request to one address, by a connection of its own.
func transport(address string, c *tls.Config) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: c,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
	}
}
