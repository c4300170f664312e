package judge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// connections are draws of TCP and TLS routes: filter chains that are chosen
// by server names and addresses.
var connections = drawn{
	configuration: dice.connectionRoutes, ask: dice.connection,
	decides: coverage.addConnection,
	wanted: []string{
		"tls by name", "tls by wildcard", "tls by nothing", "tcp by range", "tcp by nothing", "closed", "weights",
		"missed: SNI", "missed: range", "to subset",
	},
}

func (d dice) connectionRoutes() []object {
	var out []object
	for i := range 1 + d.IntN(3) {
		spec := object{}
		switch d.IntN(3) {
		case 0:
			spec["gateways"] = []any{"gw"}
		case 1:
			spec["gateways"] = []any{"gw", "mesh"}
		}
		if d.chance(50) {
			spec["hosts"] = []any{d.one("*.test", "*.v.test", "x.test", "w.v.test", "one.a.svc.cluster.local")}
			spec["tls"] = d.tlsRoutes(spec["hosts"].([]any)[0].(string))
		} else {
			spec["hosts"] = []any{d.one("one", "two", "three.b")}
			spec["tcp"] = d.tcpRoutes()
		}
		out = append(out, object{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
			"metadata": object{"name": fmt.Sprintf("vs-%d", i), "namespace": "a"}, "spec": spec,
		})
	}
	return out
}

// tlsRoutes have names that lie within a host.
func (d dice) tlsRoutes(host string) []any {
	var out []any
	for range 1 + d.IntN(3) {
		name := host
		if strings.HasPrefix(host, "*") {
			name = d.one(host, strings.Replace(host, "*", "w", 1), strings.Replace(host, "*", "*.v", 1), strings.Replace(host, "*", "x", 1))
		}
		m := object{"sniHosts": []any{name}}
		d.connectionMatch(m)
		out = append(out, object{"match": []any{m}, "route": d.connectionTargets(9443)})
	}
	return out
}

func (d dice) tcpRoutes() []any {
	var out []any
	for range 1 + d.IntN(2) {
		r := object{"route": d.connectionTargets(9000)}
		if d.chance(60) {
			m := object{}
			d.connectionMatch(m)
			if len(m) > 0 {
				r["match"] = []any{m}
			}
		}
		out = append(out, r)
	}
	return out
}

func (d dice) connectionMatch(m object) {
	if d.chance(40) {
		m["destinationSubnets"] = []any{d.one("127.0.0.0/8", "127.0.0.0/4", "10.0.0.0/8", "0.0.0.0/0", "192.0.2.7")}
	}
	if d.chance(25) {
		m["port"] = []int{9000, 9443, 80}[d.IntN(3)]
	}
	if d.chance(30) {
		m["sourceLabels"] = object{"app": d.one("client", "other")}
	}
	if d.chance(10) {
		m["sourceNamespace"] = d.one("a", "b")
	}
	if d.chance(15) {
		m["gateways"] = []any{d.one("gw", "mesh")}
	}
}

func (d dice) connectionTargets(port int) []any {
	var out []any
	n := 1 + d.IntN(2)
	for i := range n {
		to := d.destination()
		to["port"] = object{"number": port}
		item := object{"destination": to}
		if n > 1 {
			item["weight"] = []int{0, 20, 50}[d.IntN(3)]
			if i == 0 {
				item["weight"] = 30
			}
		}
		out = append(out, item)
	}
	return out
}

func (d dice) connection(_ []object) *asked {
	q := &asked{Side: d.one("outbound", "gateway"), Port: 9443}
	if d.chance(30) {
		q.Port = 9000
	}
	if q.Port == 9443 || d.chance(20) {
		q.TLS = &simulate.ClientTLS{SNI: d.one("x.test", "w.v.test", "w.test", "a.b.v.test", "unknown.example", "", "one.a.svc.cluster.local", "X.test")}
		if d.chance(40) {
			q.TLS.ALPN = []string{d.one("h2", "http/1.1", "istio")}
		}
	}
	return q
}

// serveRaw says its address to whoever sends something.
func (s *stage) serveRaw(addr netip.Addr) {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(addr, rawPort).String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if n, _ := c.Read(make([]byte, 4096)); n > 0 {
					_, _ = io.WriteString(c, l.Addr().String())
				}
			}()
		}
	}()
}

// connect opens a connection and reads who answers; an answer without a
// server is a connection that was closed.
func (s *stage) connect(q *asked) (*answer, error) {
	conn, err := s.dial(q)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	hello := []byte("hello\n")
	if q.TLS != nil {
		hello = clientHello(q.TLS)
	}
	if _, err := conn.Write(hello); err != nil {
		return &answer{}, nil //nolint:nilerr // it was closed before
	}
	b, err := io.ReadAll(conn)
	if err != nil && len(b) == 0 && !errors.Is(err, syscall.ECONNRESET) {
		return nil, err
	}
	if len(b) == 0 {
		return &answer{}, nil
	}
	return &answer{server: &reached{Address: string(b)}}, nil
}

// clientHello is the first message of a TLS client.
func clientHello(c *simulate.ClientTLS) []byte {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	go func() {
		_ = tls.Client(ours, &tls.Config{ServerName: c.SNI, NextProtos: c.ALPN, InsecureSkipVerify: true}).Handshake() //nolint:gosec // only its first message is wanted
		_ = ours.Close()
	}()
	b := make([]byte, 4096)
	n, _ := theirs.Read(b)
	return b[:n]
}

// differsConnection compares where a connection went with what the simulator
// says.
func differsConnection(hop *simulate.Hop, got *answer) string {
	if len(hop.Unknown) > 0 {
		return fmt.Sprintf("the simulator does not know %q", hop.Unknown)
	}
	where := "closed"
	if got.server != nil {
		where = got.server.Address
	}
	var want []string
	for i := range hop.To {
		d := &hop.To[i]
		if d.Percent == 0 {
			continue
		}
		if d.Reply != nil {
			want = append(want, "closed")
		}
		for _, e := range d.Endpoints {
			if e.Percent > 0 {
				want = append(want, e.Address)
			}
		}
	}
	if hop.Reply != nil || len(want) == 0 {
		want = []string{"closed"}
	}
	if slices.Contains(want, where) {
		return ""
	}
	return fmt.Sprintf("wants %s, is %s", strings.Join(want, " or "), where)
}

func (c coverage) addConnection(hop *simulate.Hop, q *asked) {
	if hop.Reply != nil || len(hop.To) == 0 {
		c["closed"]++
	}
	if len(hop.To) > 1 {
		c["weights"]++
	}
	for _, d := range hop.To {
		if strings.Contains(d.Cluster, "|v1|") || strings.Contains(d.Cluster, "|v2|") {
			c["to subset"]++
		}
	}
	if hop.Chain == nil {
		return
	}
	for _, p := range hop.Chain.Passed {
		if strings.HasPrefix(p.Why, "SNI ") {
			c["missed: SNI"]++
		}
		if strings.Contains(p.Why, " is not in ") {
			c["missed: range"]++
		}
	}
	kind := "tcp"
	if q.TLS != nil {
		kind = "tls"
	}
	switch why := hop.Chain.Name + " " + hop.Chain.Why; {
	case strings.Contains(why, "SNI *"):
		c[kind+" by wildcard"]++
	case strings.Contains(why, "SNI"):
		c[kind+" by name"]++
	case strings.Contains(why, "to "):
		c[kind+" by range"]++
	default:
		c[kind+" by nothing"]++
	}
}
