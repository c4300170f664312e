package simulate

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Answer is what happens to a Query on its whole way.
type Answer struct {
	From    string `json:"from"`
	Request string `json:"request"`
	// Address is where the client connects to, Service what has it.
	Address string `json:"address,omitempty"`
	Service string `json:"service,omitempty"`
	// Hop is the client's side; behind its endpoints are the servers' sides.
	Hop *Hop `json:"hop"`
	// Results are the ways in which it can end.
	Results []Result `json:"results"`
	// Unknown are the constructs on the way that the simulator does not know.
	Unknown []string `json:"unknown,omitempty"`
	// Observed is not 0 for an Answer that was made of so many real requests:
	// routes, timeouts and retries, which cannot be seen from outside, are not
	// in it.
	Observed int `json:"observed,omitempty"`
	// Near is a service that may have been meant instead, if somebody asked.
	Near string `json:"near,omitempty"`
}

// Certain reports whether nothing unknown was on the way.
func (a *Answer) Certain() bool { return len(a.Unknown) == 0 }

// Addresses of RFC 5737 stand for what is outside of the mesh.
var (
	outsideServer = netip.MustParseAddr("192.0.2.1")
	// OutsideClient is who asks gateways.
	OutsideClient = netip.MustParseAddr("203.0.113.1")
	plainClient   = netip.MustParseAddr("198.51.100.1")
)

// Ask answers a Query. An error is about the Query itself: a name that does
// not exist, a URL that is none.
func (w *World) Ask(q *Query) (*Answer, error) {
	t, err := parseTarget(q.URL)
	if err == nil {
		err = q.fault()
	}
	if err != nil {
		return nil, err
	}
	c, err := w.client(q.From)
	if err != nil {
		return nil, err
	}
	conn := &Conn{HTTP: q.http(t), TLS: q.tls(t), Source: q.Source}
	a := &Answer{From: q.From, Request: requestText(conn, t)}
	way := &way{World: w, served: map[servedKey]*Hop{}}
	switch {
	case c.outside:
		err = w.askGateway(a, c, conn, t)
	case c.pod == nil || c.pod.Role == config.PlainPod:
		err = w.askDirectly(a, c, conn, t)
	default:
		err = w.askSidecar(a, c, conn, t)
	}
	if err != nil {
		return nil, err
	}
	way.follow(a.Hop, c.pod, conn, maxHops)
	if s := a.Hop.Sent; s != nil && conn.HTTP != nil {
		s.Rewritten = s.Path != conn.HTTP.Path || s.Authority != conn.HTTP.Authority
	}
	w.locate(a.Hop, map[*Hop]bool{})
	a.Results = results(a.Hop)
	a.Unknown = unknowns(a.Hop, nil, map[*Hop]bool{})
	return a, nil
}

func requestText(c *Conn, t *target) string {
	if c.HTTP != nil {
		return c.HTTP.Method + " " + t.url
	}
	return t.url
}

// askSidecar is a workload's call: redirected to its sidecar.
func (w *World) askSidecar(a *Answer, c *client, conn *Conn, t *target) error {
	to, service, err := w.resolve(c.namespace, t)
	if err != nil {
		return err
	}
	conn.Destination = netip.AddrPortFrom(to, t.port)
	if !conn.Source.IsValid() {
		conn.Source = c.pod.Address
	}
	a.Address, a.Service = conn.Destination.String(), service
	a.Hop = w.Config(c.pod).Ask(outboundPort(w.Mesh), conn)
	a.Hop.Proxy, a.Hop.Side, a.Hop.pod = "sidecar "+c.pod.Name(), "outbound", c.pod
	return nil
}

func outboundPort(m *config.Mesh) uint32 {
	if p := m.Settings.Mesh.GetProxyListenPort(); p > 0 {
		return uint32(p)
	}
	return 15001
}

func inboundPort(m *config.Mesh) uint32 {
	if p := m.Settings.Mesh.GetProxyInboundListenPort(); p > 0 {
		return uint32(p)
	}
	return 15006
}

// askDirectly is the call of a client without a proxy.
func (w *World) askDirectly(a *Answer, c *client, conn *Conn, t *target) error {
	to, service, err := w.resolve(c.namespace, t)
	if err != nil {
		return err
	}
	conn.Destination = netip.AddrPortFrom(to, t.port)
	if c.pod != nil {
		conn.Source = c.pod.Address
	}
	if !conn.Source.IsValid() {
		conn.Source = plainClient
	}
	a.Address, a.Service = conn.Destination.String(), service
	a.Hop = &Hop{Proxy: "no proxy", Side: "outbound", to: conn.Destination, To: []Destination{w.plainDestination(conn)}}
	if conn.HTTP != nil {
		a.Hop.Sent = sentOf(conn.HTTP, nil, nil)
	}
	return nil
}

func (w *World) plainDestination(conn *Conn) Destination {
	d := Destination{Cluster: "(kube-proxy)", Percent: 100}
	list := w.behind(conn.Destination)
	for _, to := range list {
		ep := Endpoint{Address: to.String(), Percent: 100 / float64(len(list)), Security: &Security{Mode: Plaintext}}
		if conn.TLS != nil {
			ep.Security, ep.ALPN = &Security{Mode: TLS, SNI: conn.TLS.SNI, Passthrough: true}, conn.TLS.ALPN
		}
		d.Endpoints = append(d.Endpoints, ep)
	}
	if len(list) == 0 {
		d.Reply = &Reply{Reason: "no endpoint is behind " + conn.Destination.String() + ": the connection is refused"}
	}
	return d
}

// askGateway is the call of a client outside.
func (w *World) askGateway(a *Answer, c *client, conn *Conn, t *target) error {
	cfg := w.Config(c.pod)
	if !conn.Source.IsValid() {
		conn.Source = OutsideClient
	}
	if !c.pod.Address.IsValid() {
		return fmt.Errorf("gateway %s has no address", c.pod.Name())
	}
	port := uint32(t.port)
	for _, p := range c.pod.ports {
		for _, s := range p.Servers {
			if s.Spec.GetPort().GetNumber() == uint32(t.port) {
				port = p.Port
			}
		}
	}
	conn.Destination = netip.AddrPortFrom(c.pod.Address, uint16(port)) //nolint:gosec // a port
	a.Address = conn.Destination.String()
	a.Hop = cfg.Ask(port, conn)
	a.Hop.Proxy, a.Hop.Side, a.Hop.pod = "gateway "+c.pod.Name(), "gateway", c.pod
	return nil
}

// resolve is the client's DNS. Names outside of the mesh get an address that
// no cluster has.
func (w *World) resolve(ns string, t *target) (netip.Addr, string, error) {
	if ip, err := netip.ParseAddr(t.host); err == nil {
		return ip, "", nil
	}
	if a, s := w.Mesh.Lookup(ns, t.host); a.IsValid() {
		return a, s.Hostname, nil
	}
	suffix := "." + w.Mesh.Settings.DomainSuffix
	if strings.Contains(t.host, ".") && !strings.HasSuffix(t.host, suffix) {
		if in, ok := w.namespaceForm(t.host); !ok || in == "" {
			return outsideServer, "", nil
		}
	}
	return netip.Addr{}, "", &UnknownName{"service", t.host, config.Nearest(t.host, w.serviceNames(ns))}
}

// serviceNames are the names by which a client of a namespace may call services.
func (w *World) serviceNames(ns string) []string {
	var names []string
	for s := range w.Mesh.Services.All() {
		names = append(names, s.Hostname)
		if s.Kubernetes {
			names = append(names, s.Name+"."+s.Namespace)
			if s.Namespace == ns {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// NearestService is the name of a service that the host of a request is almost,
// where no service has it and no route: the request goes out of the mesh then,
// which may not be meant. It is empty otherwise.
func (w *World) NearestService(q *Query, a *Answer) string {
	t, err := parseTarget(q.URL)
	c, unknown := w.client(q.From)
	if err != nil || unknown != nil || c.outside || a.Service != "" || a.Hop.HostSource() != nil {
		return ""
	}
	if _, err := netip.ParseAddr(t.host); err == nil {
		return ""
	}
	ns := c.namespace
	if c.pod != nil {
		ns = c.pod.Namespace
	}
	return config.Nearest(t.host, w.serviceNames(ns))
}

// namespaceForm reports whether a name has the form service.namespace of a
// namespace that exists.
func (w *World) namespaceForm(host string) (ns string, ok bool) {
	_, ns, ok = strings.Cut(strings.TrimSuffix(host, ".svc"), ".")
	if !ok || strings.Contains(ns, ".") {
		return "", false
	}
	_, ok = w.Mesh.Namespaces.Get("", ns)
	return ns, ok
}

// behind are the addresses that a connection without a proxy can reach at an
// address: a pod's own, or the endpoints of a Service.
func (w *World) behind(to netip.AddrPort) []netip.AddrPort {
	if w.byAddress[to.Addr()] != nil {
		return []netip.AddrPort{to}
	}
	for s := range w.Mesh.Services.All() {
		if !hasAddress(s, to.Addr()) {
			continue
		}
		for _, p := range s.Ports {
			if p.Number == uint32(to.Port()) {
				return w.endpointsOf(s, p.Name)
			}
		}
		return nil
	}
	return []netip.AddrPort{to}
}

func hasAddress(s *config.Service, a netip.Addr) bool {
	text := a.String()
	for _, list := range [][]string{s.Addresses, s.AutoAddresses} {
		for _, x := range list {
			if x == text {
				return s.Kubernetes
			}
		}
	}
	return false
}

func (w *World) endpointsOf(s *config.Service, port string) []netip.AddrPort {
	e, ok := w.Mesh.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return nil
	}
	var out []netip.AddrPort
	for _, ep := range e.ByPort[port] {
		if a, err := netip.ParseAddr(ep.Address); err == nil && ep.Health == config.Healthy {
			out = append(out, netip.AddrPortFrom(a, uint16(ep.Port))) //nolint:gosec // a port
		}
	}
	return out
}

func splitAddress(s string) (netip.AddrPort, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddr(host)
	n, err2 := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), err == nil && err2 == nil
}
