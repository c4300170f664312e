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
	Plain, Secure, SecureOther, Lines int // ports
	Socket                            string
	Secret                            string // of the authority
	ca                                *certs.Authority
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
	serves(t, "socket", nil, o.Socket)
	o.Lines = port(firstLine(t))
	return o
}

func port(a net.Addr) int { return a.(*net.TCPAddr).Port }

// serves answers with its name, the Host and the header x-left-by that it saw.
func serves(t *testing.T, name string, c *tls.Config, socket string) net.Addr {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s %s", name, r.Host, r.Header.Get("x-left-by"))
	}))
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

// firstLine returns to each connection the line that it begins with.
func firstLine(t *testing.T) net.Addr {
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
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, line)
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
