package traffic

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"text/template"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/certs"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// outside are servers that are no part of the mesh, as testdata/outside calls
// them.
type outside struct {
	Plain, Secure, SecureOther, Mutual, Lines, Headers, Tunnel int // ports
	Counted, Failing                                           int
	Socket                                                     string
	Dir                                                        string // of certificates in files
	Secret                                                     string // of the authority
	ca                                                         *certs.Authority

	counted, failed, tunneled atomic.Int32
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	ca := certs.New(t)
	dir, err := os.MkdirTemp("", "traffic-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &outside{ca: ca, Socket: filepath.Join(dir, "s"), Secret: ca.Secret("authority", "nobody.test", 1)}
	o.Plain = port(serves(t, "plain", nil, ""))
	o.Secure = port(serves(t, "secure", ca.Server("secure.test", "one.sni.test"), ""))
	o.SecureOther = port(serves(t, "other", ca.Server("two.sni.test"), ""))
	o.Mutual = port(serves(t, "mutual", ca.Mutual("mutual.test"), ""))
	o.Counted = port(counts(t, &o.counted, 0, http.StatusOK))
	o.Failing = port(counts(t, &o.failed, 200*time.Millisecond, http.StatusServiceUnavailable))
	o.Tunnel = port(tunnels(t, &o.tunneled))
	o.Dir = files(t, ca)
	serves(t, "socket", nil, o.Socket)
	o.Lines = port(answers(t, func(r *bufio.Reader) string {
		line, _ := r.ReadString('\n')
		return line
	}))
	o.Headers = port(answers(t, proxyHeader))
	return o
}

func port(a net.Addr) int { return a.(*net.TCPAddr).Port }

// files holds certificates as a sidecar's volume would: a client's and the
// authority's.
func files(t *testing.T, ca *certs.Authority) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cert, key := ca.Pair(5, "client.test")
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": key, "root.pem": ca.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// counts answers with a status after a time, and counts.
func counts(t *testing.T, n *atomic.Int32, after time.Duration, status int) net.Addr {
	return handles(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		select {
		case <-time.After(after):
		case <-r.Context().Done():
		}
		w.WriteHeader(status)
	}, nil, "")
}

// tunnels connects to where CONNECT asks it to (RFC 9110 section 9.3.6), and
// counts.
func tunnels(t *testing.T, n *atomic.Int32) net.Addr {
	return handles(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		n.Add(1)
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = up.Close() }()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = down.Close() }()
		_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(up, down); _ = up.Close() }()
		_, _ = io.Copy(down, up)
	}, nil, "")
}

// serves answers with its name, the Host, the header x-left-by that it saw and
// the name on the client's certificate.
func serves(t *testing.T, name string, c *tls.Config, socket string) net.Addr {
	return handles(t, func(w http.ResponseWriter, r *http.Request) {
		client := ""
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			client = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = fmt.Fprintf(w, "%s %s %s%s", name, r.Host, r.Header.Get("x-left-by"), client)
	}, c, socket)
}

func handles(t *testing.T, f http.HandlerFunc, c *tls.Config, socket string) net.Addr {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	if socket != "" {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Listener.Close()
		s.Listener = l
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that refuses the certificate is meant to
	if c != nil {
		s.TLS = c
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

// answers says to each connection what f makes of its beginning.
func answers(t *testing.T, f func(*bufio.Reader) string) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(c, f(bufio.NewReader(c)))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // closing with bytes unread would reset it
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr()
}

// TestOutside covers ServiceEntries, TLS origination, egress, and routing of
// TLS and TCP connections.
func TestOutside(t *testing.T) {
	o := newOutside(t)
	dir := copied(t, "base")
	fill(t, filepath.Join(dir, "outside.yaml"), "testdata/outside/outside.yaml", o)
	s := &theme{stage.Start(t, dir, up.Loopback)}
	s.probes(t, []probe{
		{url: "http://static.test/", body: "plain static.test "},
		{url: "http://dns.test/", body: "plain dns.test "},
		{url: "http://socket.test/", body: "socket socket.test "},
		{url: "http://secure.test/", body: "secure secure.test "},
		{url: "http://impostor.test/", status: 503},
		{name: "MUTUAL with files", url: "http://mutual-files.test/", body: "mutual mutual-files.test client.test"},
		{name: "MUTUAL with a Secret", url: "http://mutual-secret.test/", body: "mutual mutual-secret.test nobody.test"},
		{name: "MUTUAL, no certificate", url: "http://mutual-none.test/", status: 503},
		{name: "SIMPLE without verification", url: "http://unverified.test/", body: "secure unverified.test "},
		{url: "http://round-robin.test/", body: "plain round-robin.test "},
		{url: "http://egress.test/", body: "plain egress.test gateway"},
		{name: "registry only, known", from: "other", url: "http://static.test/", body: "plain static.test "},
		{name: "registry only, unknown", from: "other", url: "http://unknown.test/", status: 502},
	})
	for from, by := range map[string]string{"client": `"workload":"a"`, "other": `"workload":"b"`} {
		t.Run("TCP from "+from, func(t *testing.T) {
			if got := s.line(t, from, "lines:7000"); !strings.Contains(got, by) {
				t.Errorf("answered %s, want %s", got, by)
			}
		})
	}
	t.Run("TCP weights", s.tcpWeights)
	t.Run("mirror percentage", func(t *testing.T) { s.mirrorsShare(t, o) })
	t.Run("retry budget", func(t *testing.T) { s.budgets(t, o) })
	t.Run("tunnel", func(t *testing.T) {
		if got := s.line(t, "client", "tunneled.test:7300"); got != "hello\n" || o.tunneled.Load() != 1 {
			t.Errorf("answered %q by %d tunnels, want one", got, o.tunneled.Load())
		}
	})
	t.Run("PROXY protocol 2", func(t *testing.T) {
		if got := s.line(t, "client", "proxied2.test:7200"); !strings.HasPrefix(got, "from 127.") {
			t.Errorf("began with %q", got)
		}
	})
	t.Run("PROXY protocol", func(t *testing.T) {
		if got := s.line(t, "client", "proxied.test:7100"); !strings.HasPrefix(got, "PROXY TCP4 127.") {
			t.Errorf("began with %q", got)
		}
	})
	for name, by := range map[string]string{"one.sni.test": "secure", "two.sni.test": "other"} {
		t.Run("SNI "+name, func(t *testing.T) { s.overTLS(t, o.ca, name, by) })
	}
}

// fill writes a file from a template.
func fill(t *testing.T, path, from string, with any) {
	t.Helper()
	var b strings.Builder
	if err := template.Must(template.ParseFiles(from)).Execute(&b, with); err != nil {
		t.Fatal(err)
	}
	stage.Write(t, path, b.String())
}

// line says something on a connection of a workload and returns the first
// line of the answer.
func (s *theme) line(t *testing.T, from, address string) string {
	t.Helper()
	dial, err := s.Dialer(from)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// overTLS asks a host by TLS that the mesh does not take off.
func (s *theme) overTLS(t *testing.T, ca *certs.Authority, name, by string) {
	t.Helper()
	dial, err := s.Dialer("client")
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: ca.Client(""), DisableKeepAlives: true,
	}}
	r, err := ask(t.Context(), c, probe{url: "https://" + name + ":7443/"})
	if err != nil {
		t.Fatal(err)
	}
	if want := by + " " + name + ":7443 "; r.Body != want {
		t.Errorf("answered %q, want %q", r.Body, want)
	}
}
