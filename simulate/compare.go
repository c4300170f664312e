package simulate

import (
	"fmt"
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// ChangedHosts are the hosts of a route table whose virtual hosts differ
// between two configurations, without ports.
func ChangedHosts(before, after *Config, table string) []string {
	was, now := hostsOf(before.table(table)), hostsOf(after.table(table))
	var out []string
	for name, vh := range merge(was, now) {
		if proto.Equal(was[name], now[name]) {
			continue
		}
		for _, d := range vh.GetDomains() {
			if d = withoutPort(d); !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	slices.Sort(out)
	return out
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
