package traffic

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// proxyV2 is what a version 2 header begins with (the PROXY protocol, section
// 2.2).
const proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"

// proxyHeader reads a version 2 header over IPv4 and the line after it, and
// returns the address that it says is the source's.
func proxyHeader(r *bufio.Reader) string {
	b := make([]byte, 16)
	if _, err := io.ReadFull(r, b); err != nil || string(b[:12]) != proxyV2 || b[12] != 0x21 || b[13] != 0x11 {
		return fmt.Sprintf("no header of version 2 over TCP and IPv4: %q\n", b)
	}
	addresses := make([]byte, binary.BigEndian.Uint16(b[14:]))
	if _, err := io.ReadFull(r, addresses); err != nil || len(addresses) < 12 {
		return fmt.Sprintf("addresses cut off: %q\n", addresses)
	}
	_, _ = r.ReadString('\n')
	return fmt.Sprintf("from %v\n", netip.AddrFrom4([4]byte(addresses[:4])))
}

// TestProxyProtocol: a gateway behind a load balancer that speaks the PROXY
// protocol, of either version, tells the application who the client is, and
// passes it on where a DestinationRule says so.
func TestProxyProtocol(t *testing.T) {
	o := newOutside(t)
	dir := copied(t, "base")
	fill(t, filepath.Join(dir, "proxied.yaml"), "testdata/proxied/proxied.yaml", o)
	s := &theme{stage.Start(t, dir, up.Loopback)}
	source := netip.MustParseAddr("203.0.113.7").As4()
	headers := map[string]string{
		"version 1": "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n",
		"version 2": proxyV2 + "\x21\x11\x00\x0c" + string(source[:]) + "\xc0\x00\x02\x01\x12\x67\x00\x50",
	}
	for name, header := range headers {
		t.Run(name, func(t *testing.T) {
			a := s.proxied(t, header)
			if got := a.Headers.Get("X-Forwarded-For"); got != "203.0.113.7" || a.Workload != "a" {
				t.Errorf("%s saw x-forwarded-for %q", a.Workload, got)
			}
			c := s.connect(t, 9000)
			if _, err := io.WriteString(c, header+"hello\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "from 203.0.113.7\n" {
				t.Errorf("it was passed on as %q", got)
			}
		})
	}
	t.Run("without", func(t *testing.T) {
		c := s.connect(t, 80)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: proxied.test\r\n\r\n")
		if got, _ := io.ReadAll(c); len(got) != 0 {
			t.Errorf("answered %q", got)
		}
	})
}

func (s *theme) connect(t *testing.T, port uint32) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.At("ingress", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func (s *theme) proxied(t *testing.T, header string) (a echo.Answer) {
	t.Helper()
	c := s.connect(t, 80)
	if _, err := fmt.Fprintf(c, "%sGET / HTTP/1.1\r\nHost: proxied.test\r\n\r\n", header); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}
