package simulate

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	rbacpb "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Target is one port of a service.
type Target struct {
	Service *config.Service
	Port    config.ServicePort
}

// String is "reviews.shop:80".
func (t Target) String() string {
	return fmt.Sprintf("%s.%s:%d", t.Service.Name, t.Service.Namespace, t.Port.Number)
}

// Clients are the workloads that may send requests, one pod of each; empty
// names mean any.
func (w *World) Clients(workload, namespace string) []string {
	var out []string
	for _, p := range w.pods {
		if p.Role == config.GatewayPod || namespace != "" && p.Namespace != namespace || workload != "" && p.WorkloadName() != workload {
			continue
		}
		if n := p.Name(); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Gateways are the workloads that are gateways.
func (w *World) Gateways() []string {
	var out []string
	for _, p := range w.pods {
		if n := p.Name(); p.Role == config.GatewayPod && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Targets are the ports of services; empty names mean any.
func (w *World) Targets(service, namespace string) []Target {
	var out []Target
	for s := range w.Mesh.Services.All() {
		if service != "" && s.Name != service && s.Hostname != service || namespace != "" && s.Namespace != namespace {
			continue
		}
		if strings.Contains(s.Hostname, "*") {
			continue
		}
		for _, p := range s.Ports {
			if p.Protocol != config.ProtocolUDP {
				out = append(out, Target{s, p})
			}
		}
	}
	return out
}

// maxExplored bounds the requests of one Explore.
const maxExplored = 400

// Explore makes up the requests that the configuration between a client and a
// service tells apart: one for each route of the client's and each rule of
// the servers' that could decide, alone and together, and one that meets none.
func (w *World) Explore(from string, to Target) []*Query {
	url := fmt.Sprintf("%s://%s:%d", scheme(to.Port.Protocol), to.Service.Hostname, to.Port.Number)
	base := &Query{From: from, URL: url + "/"}
	out := []*Query{base}
	if scheme(to.Port.Protocol) != "http" {
		base.URL = url
		return out
	}
	a, err := w.Ask(base)
	if err != nil {
		return out
	}
	requests := w.routeWitnesses(a, from)
	for _, rule := range w.ruleWitnesses(a) {
		for _, r := range append([]*HTTP{{Method: http.MethodGet, Path: "/"}}, requests...) {
			requests = append(requests, combined(r, rule))
			if len(requests) > maxExplored {
				break
			}
		}
	}
	requests = append(requests, &HTTP{Method: http.MethodPost, Path: "/none-of-the-above"})
	for _, r := range requests {
		out = append(out, &Query{From: from, URL: url + r.Path, Method: r.Method, Header: r.Header})
	}
	return unique(out)
}

// ExploreBehind are the requests of ExploreGateway, and for each of them those
// that meet the rules of the gateway and of the servers that it leads to; all
// of them, or the first some hundred.
func (w *World) ExploreBehind(gateway string) (list []*Query, all bool) {
	p, err := w.Find(gateway)
	if err != nil || w.Config(p) == nil {
		return nil, true
	}
	own := rulesOf(w.Config(p))
	var out []*Query
	for _, q := range w.ExploreGateway(gateway) {
		if len(out) >= maxExplored {
			return unique(out), false
		}
		out = append(out, q)
		a, err := w.Ask(q)
		if err != nil {
			continue
		}
		path := pathOf(q.URL)
		for _, rule := range slices.Concat(own, w.ruleWitnesses(a)) {
			h := combined(&HTTP{Method: cmp.Or(q.Method, http.MethodGet), Path: path, Header: q.Header}, rule)
			out = append(out, &Query{From: q.From, URL: strings.TrimSuffix(q.URL, path) + h.Path, Method: h.Method, Header: h.Header})
		}
	}
	return unique(out), true
}

// pathOf is what follows the authority of a URL.
func pathOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return ""
}

func scheme(p config.Protocol) string {
	switch {
	case p.IsTLS():
		return "tls"
	case p.IsTCP():
		return "tcp"
	}
	return "http"
}

func unique(list []*Query) []*Query {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(q *Query) bool {
		s := q.String()
		was := seen[s]
		seen[s] = true
		return was
	})
}

// String is the query as arguments of the command line.
func (q *Query) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "--from %s %s", q.From, q.URL)
	if q.Method != "" && q.Method != http.MethodGet {
		fmt.Fprintf(&b, " -X %s", q.Method)
	}
	for _, h := range q.Header {
		fmt.Fprintf(&b, " -H '%s: %s'", h.Name, h.Value)
	}
	return b.String()
}

// routeWitnesses are requests for each route of the virtual host that
// answered.
func (w *World) routeWitnesses(a *Answer, from string) []*HTTP {
	p, err := w.Find(from)
	if err != nil || a.Hop.RouteTable == "" || w.Config(p) == nil {
		return nil
	}
	t := w.Config(p).table(a.Hop.RouteTable)
	if t == nil || a.Hop.VirtualHost == nil {
		return nil
	}
	e := &exchange{config: w.Config(p), conn: &Conn{}, hop: &Hop{}}
	var out []*HTTP
	for _, vh := range t.GetVirtualHosts() {
		if vh.GetName() != a.Hop.VirtualHost.Name {
			continue
		}
		for _, r := range vh.GetRoutes() {
			if h, ok := e.witness(r.GetMatch(), ""); ok {
				out = append(out, h)
			}
		}
	}
	return out
}

// ruleWitnesses are requests for each rule of the servers' RBAC filters.
func (w *World) ruleWitnesses(a *Answer) []*HTTP {
	var out []*HTTP
	for i := range a.Hop.To {
		for j := range a.Hop.To[i].Endpoints {
			ep := &a.Hop.To[i].Endpoints[j]
			if ep.Server == nil {
				continue
			}
			if p, err := w.Find(ep.Workload); err == nil && w.Config(p) != nil {
				out = append(out, rulesOf(w.Config(p))...)
			}
		}
	}
	return out
}

// rulesOf makes up a request for every RBAC policy of a proxy.
func rulesOf(c *Config) []*HTTP {
	var out []*HTTP
	for _, l := range c.allListeners().all {
		for _, fc := range l.GetFilterChains() {
			for _, f := range fc.GetFilters() {
				m, err := c.unpack(f.GetTypedConfig())
				manager, ok := m.(*hcm.HttpConnectionManager)
				if err != nil || !ok {
					continue
				}
				for _, hf := range manager.GetHttpFilters() {
					m, err := c.unpack(hf.GetTypedConfig())
					if r, ok := m.(*rbac.RBAC); err == nil && ok {
						out = append(out, policyWitnesses(r.GetRules())...)
					}
				}
			}
		}
	}
	return out
}

func policyWitnesses(rules *rbacpb.RBAC) []*HTTP {
	var out []*HTTP
	for _, p := range rules.GetPolicies() {
		for _, perm := range p.GetPermissions() {
			h := &HTTP{Method: http.MethodGet, Path: "/"}
			satisfy(h, perm)
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b *HTTP) int { return strings.Compare(a.Method+a.Path, b.Method+b.Path) })
	return slices.CompactFunc(out, func(a, b *HTTP) bool {
		return a.Method == b.Method && a.Path == b.Path && len(a.Header) == len(b.Header)
	})
}

// satisfy makes a request meet a permission, the first of several choices.
func satisfy(h *HTTP, p *rbacpb.Permission) {
	switch r := p.GetRule().(type) {
	case *rbacpb.Permission_AndRules:
		for _, sub := range r.AndRules.GetRules() {
			satisfy(h, sub)
		}
	case *rbacpb.Permission_OrRules:
		if len(r.OrRules.GetRules()) > 0 {
			satisfy(h, r.OrRules.GetRules()[0])
		}
	case *rbacpb.Permission_UrlPath:
		if path := exampleOf(r.UrlPath.GetPath()); strings.HasPrefix(path, "/") {
			h.Path = path
		}
	case *rbacpb.Permission_Header:
		setHeader(h, r.Header)
	}
}

// combined is a request of a route that also meets a rule where it can.
func combined(route, rule *HTTP) *HTTP {
	out := route.clone()
	if rule.Method != http.MethodGet {
		out.Method = rule.Method
	}
	if out.Path == "/" {
		out.Path = rule.Path
	}
	for _, f := range rule.Header {
		out.Header = append(out.Header.without(f.Name), f)
	}
	return out
}
