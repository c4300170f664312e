package simulate

import (
	"fmt"
	"net/netip"
	"strings"

	upstreams "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// maxHops bounds a way: client, egress gateway, server are three.
const maxHops = 6

// way follows one request from proxy to proxy.
type way struct {
	*World
	served map[servedKey]*Hop
}

// servedKey names a server's side that several endpoints have in common.
type servedKey struct {
	workload string
	labels   string
	port     uint16
	cluster  string
	mode     string
}

// follow fills in what is behind a hop's endpoints.
func (w *way) follow(h *Hop, from *Pod, conn *Conn, hops int) {
	if hops == 0 {
		h.unknown("the way is longer than the simulator follows")
		return
	}
	for i := range h.To {
		d := &h.To[i]
		sent := h.Sent
		if d.Sent != nil {
			sent = d.Sent
		}
		for j := range d.Endpoints {
			ep := &d.Endpoints[j]
			if ep.Security != nil && ep.Security.Identity == meshSecret {
				ep.Security.Identity = ""
				if from != nil {
					ep.Security.Identity = w.Identity(from)
				}
			}
			w.arrive(h, d, ep, sent, from, conn, hops)
		}
	}
}

// arrive is what happens at one endpoint.
func (w *way) arrive(h *Hop, d *Destination, ep *Endpoint, sent *Sent, from *Pod, conn *Conn, hops int) {
	if s := ep.Security; s != nil && s.lacks != "" {
		ep.Server = &Hop{Proxy: h.Proxy, Side: h.Side, Reply: &Reply{Reason: noSecret(s.lacks), Source: d.Source}}
		return
	}
	to, ok := splitAddress(ep.Address)
	if !ok || to.Addr().IsLoopback() {
		ep.Workload = "outside"
		if ok {
			ep.Workload = ""
		}
		return
	}
	p := w.byAddress[to.Addr()]
	if p == nil && d.Discovery == discoveryOrigin {
		if list := w.behind(to); len(list) > 0 {
			to = list[0] // any of them: a Service without a route of its own
			p = w.byAddress[to.Addr()]
		}
	}
	if p == nil {
		ep.Workload = "outside"
		return
	}
	ep.Workload, ep.Labels = p.Name(), p.Labels
	if h.Side == "inbound" {
		return // the application
	}
	if is := w.Identity(p); p.Role != config.PlainPod && ep.Security.Identity != "" && ep.Security.takes != nil && !ep.Security.takes(is) {
		ep.Server = &Hop{Proxy: "sidecar " + p.Name(), Side: "inbound", Reply: &Reply{
			Reason: fmt.Sprintf("the client takes a server whose name %s, and this one is %s: the handshake fails", strings.Join(ep.Security.Verifies, " or "), is),
			Source: d.Source,
		}}
		return
	}
	key := servedKey{p.Name(), p.Labels["version"], to.Port(), d.Cluster, ep.Security.Mode}
	if done := w.served[key]; done != nil && p.Role != config.GatewayPod {
		ep.Server = done
		return
	}
	ep.Server = w.serve(p, to, w.connTo(d, ep, sent, from, conn, to), hops)
	if ep.Server != nil {
		w.served[key] = ep.Server
	}
}

// connTo is the connection as it reaches a server.
func (w *way) connTo(d *Destination, ep *Endpoint, sent *Sent, from *Pod, conn *Conn, to netip.AddrPort) *Conn {
	out := &Conn{Destination: to, Source: conn.Source, HTTP: conn.HTTP}
	if from != nil && from.Address.IsValid() {
		out.Source = from.Address
	}
	if sent != nil && sent.http != nil {
		out.HTTP = sent.http.clone()
		out.HTTP.HTTP2 = w.speaksHTTP2(from, d.Cluster, conn.HTTP)
		if !out.HTTP.hasToken() { // a proxy took it
			out.HTTP.Claims = nil
		}
	}
	switch {
	case ep.Security.Passthrough:
		out.TLS = conn.TLS
	case ep.Security.Mode != Plaintext:
		out.TLS = &ClientTLS{
			SNI: ep.Security.SNI, ALPN: ep.ALPN, Identity: ep.Security.Identity,
			Mesh: strings.HasPrefix(ep.Security.Identity, "spiffe://"),
		}
	}
	return out
}

// speaksHTTP2 reports which version of HTTP a cluster is spoken to in.
func (w *way) speaksHTTP2(from *Pod, cluster string, original *HTTP) bool {
	same := original != nil && original.HTTP2
	if from == nil || from.config == nil {
		return same
	}
	c := from.config.cluster(cluster)
	for _, a := range c.GetTypedExtensionProtocolOptions() {
		m, err := from.config.unpack(a)
		o, ok := m.(*upstreams.HttpProtocolOptions)
		if err != nil || !ok {
			continue
		}
		switch {
		case o.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil:
			return true
		case o.GetUseDownstreamProtocolConfig() != nil:
			return same
		}
	}
	return c.GetHttp2ProtocolOptions() != nil //nolint:staticcheck // Envoy still takes the old field
}

// serve is the server's side; nil for an application without a proxy that
// takes what it is sent.
func (w *way) serve(p *Pod, to netip.AddrPort, conn *Conn, hops int) *Hop {
	cfg := w.Config(p)
	if cfg == nil {
		if conn.TLS != nil && conn.TLS.Mesh {
			return &Hop{Proxy: "no proxy at " + p.Name(), Side: "inbound", Reply: &Reply{
				Reason: "the client speaks mesh mTLS and the server has no sidecar: the connection fails",
			}}
		}
		return nil
	}
	if p.Role == config.GatewayPod {
		h := cfg.Ask(uint32(to.Port()), conn)
		h.Proxy, h.Side, h.pod = "gateway "+p.Name(), "gateway", p
		w.follow(h, p, conn, hops-1)
		return h
	}
	h := cfg.Ask(inboundPort(w.Mesh), conn)
	h.Proxy, h.Side, h.pod = "sidecar "+p.Name(), "inbound", p
	w.peers(h, p, uint32(to.Port()), conn)
	if conn.TLS != nil && conn.TLS.Mesh {
		plain := *conn
		plain.TLS = nil
		without := cfg.Ask(inboundPort(w.Mesh), &plain)
		h.Strict = without.Reply != nil && without.Reply.Status == 0 && len(without.Filters) == 0
		// A chain of HTTP has refused it by itself.
		if h.Reply == nil && h.Sent == nil && h.Downstream != nil && h.Downstream.Passthrough {
			h.To, h.Reply = nil, &Reply{
				Reason: "the client speaks mesh mTLS and the server's sidecar leaves it to the application: the handshake fails", Source: h.Chain.Source,
			}
		}
	}
	w.follow(h, p, conn, hops-1)
	return h
}

func unknowns(h *Hop, out []string, seen map[*Hop]bool) []string {
	if h == nil || seen[h] {
		return out
	}
	seen[h] = true
	for _, u := range h.Unknown {
		out = append(out, h.Proxy+": "+u)
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			out = unknowns(h.To[i].Endpoints[j].Server, out, seen)
		}
	}
	return out
}
