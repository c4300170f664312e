package simulate

import (
	"fmt"
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// ChangedHosts are the hosts of a route table whose virtual hosts differ
// between two configurations, without ports.
func ChangedHosts(before, after *Config, table string) []string {
	if out, ok := differingPieces(before.route(table), after.route(table)); ok {
		return out
	}
	was, now := hostsOf(before.table(table)), hostsOf(after.table(table))
	var out []string
	for name, vh := range merge(was, now) {
		if !proto.Equal(was[name], now[name]) {
			out = addHosts(out, vh)
		}
	}
	slices.Sort(out)
	return out
}

func addHosts(out []string, vh *route.VirtualHost) []string {
	for _, d := range vh.GetDomains() {
		if d = withoutPort(d); !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

func (c *Config) route(name string) *translate.Resource {
	for _, p := range c.parts {
		if r := p.resources.Routes.Get(name); r != nil {
			return r
		}
	}
	return nil
}

// differingPieces finds the hosts by the pieces in which tables are encoded:
// most of two large tables is the same bytes. ok is false where a piece that
// differs is no virtual host by itself.
func differingPieces(a, b *translate.Resource) (hosts []string, ok bool) {
	if a == nil || b == nil {
		return nil, false
	}
	seen := map[string]int{}
	for _, piece := range a.Body {
		seen[string(piece)]++
	}
	var differ []string
	for _, piece := range b.Body {
		if seen[string(piece)] > 0 {
			seen[string(piece)]--
		} else {
			differ = append(differ, string(piece))
		}
	}
	for piece, n := range seen {
		if n > 0 {
			differ = append(differ, piece)
		}
	}
	for _, piece := range differ {
		rc := &route.RouteConfiguration{}
		if proto.Unmarshal([]byte(piece), rc) != nil || len(rc.GetVirtualHosts()) == 0 {
			return nil, false
		}
		for _, vh := range rc.GetVirtualHosts() {
			hosts = addHosts(hosts, vh)
		}
	}
	slices.Sort(hosts)
	return hosts, true
}

func hostsOf(t *routeTable) map[string]*route.VirtualHost {
	out := map[string]*route.VirtualHost{}
	if t != nil {
		for _, vh := range t.GetVirtualHosts() {
			out[vh.GetName()] = vh
		}
	}
	return out
}

func merge[T any](a, b map[string]T) map[string]T {
	out := map[string]T{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

// ServedBy are the hosts of the services that a pod stands behind.
func (w *World) ServedBy(p *Pod) []string {
	var out []string
	for _, s := range w.Mesh.Services.In(p.Namespace) {
		if len(s.Selector) > 0 && config.Selects(s.Selector, p.Labels) {
			out = append(out, s.Hostname)
		}
	}
	return out
}

// Assigned are the versions of the endpoints of a part's clusters, by cluster,
// wherever the proxy runs.
func (w *World) Assigned(p *Part) map[string]config.Hash {
	out := make(map[string]config.Hash, len(p.resources.Endpoints))
	for i := range p.resources.Endpoints {
		spec := &p.resources.Endpoints[i]
		h := config.NewHasher().Hash(spec.Hash)
		if eps, ok := w.Mesh.Endpoints.Get(spec.Service.Namespace, spec.Service.Hostname); ok {
			h.Hash(eps.Hash)
		}
		out[spec.Cluster] = h.Sum()
	}
	return out
}

// ExploreGateway makes up requests for each route of a gateway's tables.
func (w *World) ExploreGateway(name string) []*Query {
	p, err := w.Find(name)
	if err != nil || w.Config(p) == nil {
		return nil
	}
	e := &exchange{config: w.Config(p), conn: &Conn{}, hop: &Hop{}}
	var out []*Query
	for _, port := range p.ports {
		for _, s := range port.Servers {
			t := w.Config(p).table(s.Route)
			if t == nil {
				continue
			}
			scheme, number := "http", s.Spec.GetPort().GetNumber()
			if s.Spec.GetTls() != nil {
				scheme = "https"
			}
			for _, vh := range t.GetVirtualHosts() {
				out = append(out, e.gatewayQueries(vh, "gateway/"+name, scheme, number)...)
			}
		}
	}
	return unique(out)
}

func (e *exchange) gatewayQueries(vh *route.VirtualHost, from, scheme string, port uint32) []*Query {
	if len(vh.GetDomains()) == 0 {
		return nil
	}
	host := strings.Replace(withoutPort(vh.GetDomains()[0]), "*", "www", 1)
	if host == "www" {
		host = "www.example.com"
	}
	base := fmt.Sprintf("%s://%s:%d", scheme, host, port)
	out := []*Query{{From: from, URL: base + "/"}}
	for _, r := range vh.GetRoutes() {
		if h, ok := e.witness(r.GetMatch(), host); ok {
			out = append(out, &Query{From: from, URL: base + h.Path, Method: h.Method, Header: h.Header})
		}
	}
	return out
}
