package simulate

import (
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Serves finds who has routes for the host of a query: a gateway, or else a
// workload whose sidecar has. The answer is a Query.From, "" if nobody has.
// Paths, methods and other headers do not decide it, so it is remembered.
func (w *World) Serves(q *Query) (from string, ok bool) {
	if q.fault() != nil {
		return "", false
	}
	key, err := hostOf(q)
	if err != nil {
		return "", false
	}
	w.mu.Lock()
	from, known := w.servers[key]
	w.mu.Unlock()
	if !known {
		from = w.findServer(q)
		w.mu.Lock()
		w.servers[key] = from
		w.mu.Unlock()
	}
	return from, from != ""
}

// hosted is all of a Query that filter chains and virtual hosts are chosen by,
// but for the client.
type hosted struct {
	scheme, host, authority, sni string
	port                         uint16
	source                       netip.Addr
	certificate                  *Certificate
	http2                        bool
}

func hostOf(q *Query) (hosted, error) {
	t, err := parseTarget(q.URL)
	if err != nil {
		return hosted{}, err
	}
	h := hosted{scheme: t.scheme, host: t.host, port: t.port, sni: q.SNI, source: q.Source, http2: q.HTTP2, certificate: q.Certificate}
	if request := q.http(t); request != nil {
		h.authority = request.Authority
	}
	return h, nil
}

func (w *World) findServer(q *Query) (from string) {
	try := func(from string) bool {
		own := *q
		own.From = from
		a, err := w.Ask(&own)
		if err != nil || a.Hop.VirtualHost == nil || a.Hop.VirtualHost.Source == nil {
			return false
		}
		return a.Hop.VirtualHost.Source.Object.Kind == "VirtualService"
	}
	for gw := range w.Mesh.Gateways.All() {
		if from := "gateway/" + gw.Namespace + "/" + gw.Name; try(from) {
			return from
		}
	}
	seen := map[string]bool{}
	for _, p := range w.pods {
		if p.Role == config.SidecarPod && !seen[p.Namespace] {
			seen[p.Namespace] = true
			if try(p.Name()) {
				return p.Name()
			}
		}
	}
	return ""
}

// Completed is a mesh of VirtualServices alone with what it takes to ask about
// them: the Gateways that they name, and a client in each namespace without a
// workload.
func Completed(m *config.Mesh) *config.Mesh {
	b := config.NewBuilder(m)
	inhabited := map[string]bool{}
	for wl := range m.Workloads.All() {
		inhabited[wl.Namespace] = true
	}
	for vs := range m.VirtualServices.All() {
		for _, g := range vs.Spec.GetGateways() {
			ns, name, full := strings.Cut(g, "/")
			if !full {
				ns, name = vs.Namespace, g
			}
			if _, have := m.Gateways.Get(ns, name); have || g == "mesh" {
				continue
			}
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways }, openGateway(ns, name))
		}
		if !inhabited[vs.Namespace] {
			inhabited[vs.Namespace] = true
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Workload] { return &m.Workloads }, clientIn(vs.Namespace))
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, port80In(vs.Namespace))
		}
	}
	return b.Mesh()
}

// openGateway takes every host on port 80.
func openGateway(ns, name string) *config.Gateway {
	g := &config.Gateway{
		Meta: config.Meta{Key: config.Key{Group: "networking.istio.io", Kind: "Gateway", Namespace: ns, Name: name}, Version: "v1"},
		Spec: &networking.Gateway{
			Selector: map[string]string{"istio": "ingressgateway"},
			Servers: []*networking.Server{{
				Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{"*"},
			}},
		},
	}
	g.Hash = config.NewHasher().Str("open gateway", ns, name).Sum()
	return g
}

// clientIn is a workload with a sidecar that only asks.
func clientIn(ns string) *config.Workload {
	w := &config.Workload{
		Meta:  config.Meta{Key: config.Key{Kind: "Pod", Namespace: ns, Name: "client"}, File: "(client)"},
		Ready: true, IPs: []string{"198.51.100.2"},
	}
	w.Hash = config.NewHasher().Str("client", ns).Sum()
	return w
}

// port80In is a service that makes sidecars route requests to port 80.
func port80In(ns string) *config.Service {
	s := &config.Service{
		Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: ns, Name: "client"}},
		Hostname: "client." + ns + ".svc.cluster.local", Addresses: []string{"198.51.100.3"}, Kubernetes: true,
		Ports: []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}}, ExportTo: config.Visibility{Public: true},
	}
	s.Hash = config.NewHasher().Str("port 80", ns).Sum()
	return s
}
