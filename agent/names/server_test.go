package names_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/pilotfish-mesh/pilotfish/agent/names"
	"github.com/pilotfish-mesh/pilotfish/config"
)

// table is encoded by what the control plane encodes with.
func table(t *testing.T, in config.NameTable) *names.Table {
	t.Helper()
	out, err := names.Parse(in.Marshal(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func service(name, ns string, ips ...string) config.NameInfo {
	return config.NameInfo{IPs: ips, Registry: "Kubernetes", Shortname: name, Namespace: ns}
}

func TestFind(t *testing.T) {
	tb := table(t, config.NameTable{
		"app.shop.svc.cluster.local":  service("app", "shop", "10.96.0.1", "fd00::1"),
		"app.other.svc.cluster.local": service("app", "other", "10.96.0.2"),
		"db.other.svc.cluster.local":  service("db", "other", "10.96.0.3"),
		"Outside.example.com":         {IPs: []string{"240.240.0.1"}, Registry: "External"},
		"*.wild.example.com":          {IPs: []string{"240.240.0.2"}, Registry: "External"},
		"*.deep.wild.example.com":     {IPs: []string{"240.240.0.3"}, Registry: "External"},
		"exact.deep.wild.example.com": {IPs: []string{"240.240.0.4"}, Registry: "External"},
		"addressless.example.com":     {Registry: "External"},
		"nonsense.example.com":        {IPs: []string{"no address"}, Registry: "External"},
	})
	for name, want := range map[string]string{
		"app.shop.svc.cluster.local": "10.96.0.1 fd00::1", "app": "10.96.0.1 fd00::1", "app.shop": "10.96.0.1 fd00::1",
		"app.shop.svc": "10.96.0.1 fd00::1", "app.other": "10.96.0.2", "db": "unknown", "db.other.svc": "10.96.0.3",
		"outside.example.com": "240.240.0.1", "wild.example.com": "unknown", "a.wild.example.com": "240.240.0.2",
		"a.b.wild.example.com": "240.240.0.2", "a.deep.wild.example.com": "240.240.0.3",
		"exact.deep.wild.example.com": "240.240.0.4", "addressless.example.com": "", "nonsense.example.com": "", "example.com": "unknown",
	} {
		got := "unknown"
		if a, ok := tb.Find(name); ok {
			got = strings.Trim(fmt.Sprint(a), "[]")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(config.NameTable{"a": service("a", "b", "10.0.0.1")}.Marshal())
	f.Add([]byte{10, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if tb, err := names.Parse(b, "shop"); err == nil {
			tb.Find("a.b.c")
		}
	})
}

// upstream is a DNS server that knows one name, and truncates over UDP what it
// says about another.
func upstream(t *testing.T) string {
	t.Helper()
	var u net.PacketConn
	var l net.Listener
	onFreePort(t, func(at string) (err error) {
		if u, err = net.ListenPacket("udp", at); err != nil {
			return err
		}
		if l, err = net.Listen("tcp", at); err != nil {
			_ = u.Close()
		}
		return err
	})
	t.Cleanup(func() { _, _ = u.Close(), l.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(respond(b[:n], false), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			if n > 2 {
				out := respond(b[2:n], true)
				_, _ = c.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...))
			}
			_ = c.Close()
		}
	}()
	return u.LocalAddr().String()
}

func respond(query []byte, whole bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	name := strings.ToLower(m.Questions[0].Name.String())
	switch {
	case name == "big.test." && !whole:
		m.Truncated = true
	case (name == "up.test." || name == "big.test.") && m.Questions[0].Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 9},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}},
		}}
	case name != "up.test." && name != "big.test.":
		m.RCode = dnsmessage.RCodeNameError
	}
	b, _ := m.Pack()
	return b
}

// onFreePort calls listen with an address that was free over TCP. UDP, or
// another process, may have it by then: the next one is tried.
func onFreePort(t *testing.T, listen func(at string) error) (at string) {
	t.Helper()
	for range 20 {
		probe, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at = probe.Addr().String()
		_ = probe.Close()
		if err = listen(at); err == nil {
			return at
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return ""
}

func start(t *testing.T, r names.Resolver, in config.NameTable) (client *net.Resolver, at string) {
	t.Helper()
	s := names.NewServer(r, zap.NewNop())
	s.Use(table(t, in))
	at = onFreePort(t, s.Listen)
	t.Cleanup(s.Close)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}}, at
}

// Questions as an application's resolver asks them.
func TestAnswers(t *testing.T) {
	many := service("many", "shop")
	for i := range 100 {
		many.IPs = append(many.IPs, fmt.Sprintf("10.1.0.%d", i+1))
	}
	client, _ := start(t, names.Resolver{
		Servers: []string{"127.0.0.1:1", upstream(t)}, // the first one is down
		Search:  []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"},
	}, config.NameTable{
		"app.shop.svc.cluster.local":  service("app", "shop", "10.96.0.1", "fd00::1"),
		"many.shop.svc.cluster.local": many,
		"outside.example.com":         {IPs: []string{"240.240.0.1"}, Registry: "External"},
		"*.wild.example.com":          {IPs: []string{"240.240.0.2"}, Registry: "External"},
		"up.test.shop":                {IPs: []string{"240.240.0.9"}, Registry: "External"},
	})
	for _, c := range []struct {
		network, name string
		want          []string
	}{
		{"ip4", "app.", []string{"10.96.0.1"}},
		{"ip6", "app.", []string{"fd00::1"}},
		{"ip", "APP.shop.svc.Cluster.local.", []string{"10.96.0.1", "fd00::1"}},
		{"ip4", "outside.example.com.shop.svc.cluster.local.", []string{"240.240.0.1"}}, // a search domain behind it
		{"ip4", "x.wild.example.com.", []string{"240.240.0.2"}},
		{"ip4", "up.test.", []string{"192.0.2.7"}},
		{"ip4", "big.test.", []string{"192.0.2.7"}}, // truncated, then by TCP
		{"ip4", "many.", many.IPs},                  // too large for UDP
		{"ip4", "nowhere.test.", nil},
	} {
		got, err := client.LookupNetIP(context.Background(), c.network, c.name)
		var dns *net.DNSError
		if c.want == nil {
			if !errors.As(err, &dns) || !dns.IsNotFound {
				t.Errorf("%s: %v %v, want that it does not exist", c.name, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		slices.SortFunc(got, netip.Addr.Compare)
		var text []string
		for _, a := range got {
			text = append(text, a.Unmap().String())
		}
		slices.Sort(text)
		want := slices.Clone(c.want)
		slices.Sort(want)
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// A known name without an address of the family exists: the client must not be
// told otherwise, nor the question be passed on. Nobody answering is a failure
// of the server.
func TestEmptyAndFailed(t *testing.T) {
	_, at := start(t, names.Resolver{Servers: []string{"127.0.0.1:1"}}, config.NameTable{
		"app.shop.svc.cluster.local": service("app", "shop", "10.96.0.1"),
	})
	for name, want := range map[string]dnsmessage.RCode{"app.": dnsmessage.RCodeSuccess, "other.test.": dnsmessage.RCodeServerFailure} {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}},
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		var got dnsmessage.Message
		if err := got.Unpack(buf[:n]); err != nil || got.RCode != want || got.ID != 77 || len(got.Answers) > 0 {
			t.Errorf("%s: %+v %v, want %v", name, got, err, want)
		}
	}
}

func TestReadResolver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# pod\nsearch old.example\nnameserver 10.96.0.10\nnameserver fd00::a\nnameserver broken\nsearch shop.svc.Cluster.local. cluster.local\noptions ndots:5\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := names.ReadResolver(file)
	if err != nil {
		t.Fatal(err)
	}
	want := names.Resolver{Servers: []string{"10.96.0.10:53", "[fd00::a]:53"}, Search: []string{"shop.svc.cluster.local", "cluster.local"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
