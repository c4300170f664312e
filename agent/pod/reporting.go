package pod

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// remoteService is mesh.v1alpha1.RemoteService.
type remoteService struct {
	Address     string `json:"address"`
	TLSSettings *struct {
		Mode              string   `json:"mode"`
		ClientCertificate string   `json:"clientCertificate"`
		PrivateKey        string   `json:"privateKey"`
		CACertificates    string   `json:"caCertificates"`
		SNI               string   `json:"sni"`
		SubjectAltNames   []string `json:"subjectAltNames"`
	} `json:"tlsSettings"`
	TCPKeepalive *struct {
		Probes   uint32   `json:"probes"`
		Time     duration `json:"time"`
		Interval duration `json:"interval"`
	} `json:"tcpKeepalive"`
}

// reporting adds what the ProxyConfig says of Envoy's statistics, runtime and
// limits.
func (s *settings) reporting(b *agent.Bootstrap) error {
	p := &s.proxy
	if at := p.StatsdUDPAddress; at != "" {
		a, err := netip.ParseAddrPort(at)
		if err != nil || a.Port() == 0 {
			return fmt.Errorf("statsdUdpAddress: %q: want an IP address and a port, such as 10.0.0.5:9125", at)
		}
		b.Statsd = agent.Address{Host: a.Addr().String(), Port: uint32(a.Port())}
	}
	service := p.MetricsService
	if service == nil && p.MetricsServiceAddress != "" {
		service = &remoteService{Address: p.MetricsServiceAddress}
	}
	if service != nil && service.Address != "" {
		var err error
		if b.Metrics, err = service.remote(); err != nil {
			return fmt.Errorf("envoyMetricsService: %w", err)
		}
	}
	b.Runtime = p.runtime()
	return nil
}

// runtime are the values of Envoy's static runtime layer: what the user wrote
// goes before what follows from other fields.
func (p *proxyConfig) runtime() map[string]any {
	out := map[string]any{}
	if n := p.ConnectionSettings.GlobalLimit; n != nil && *n > 0 {
		out["overload.global_downstream_max_connections"] = strconv.Itoa(int(*n))
	}
	if n := p.ConnectionSettings.ListenerLimit; n != nil && *n > 0 {
		for _, l := range []string{"virtualInbound", "virtualOutbound"} {
			out["envoy.resource_limits.listener."+l+".connection_limit"] = strconv.Itoa(int(*n))
		}
	}
	for k, v := range p.RuntimeValues {
		out[k] = v
	}
	return out
}

func (r *remoteService) remote() (*agent.Remote, error) {
	at, err := parseAddress(r.Address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	out := &agent.Remote{Address: at}
	if k := r.TCPKeepalive; k != nil {
		seconds := func(d duration) uint32 { return uint32(time.Duration(d).Seconds()) } //nolint:gosec // a user's few seconds
		out.Keepalive = &agent.Keepalive{Probes: k.Probes, Time: seconds(k.Time), Interval: seconds(k.Interval)}
	}
	t := r.TLSSettings
	if t == nil {
		return out, nil
	}
	tls := &agent.RemoteTLS{Authorities: t.CACertificates, Name: t.SNI, Subjects: t.SubjectAltNames}
	switch t.Mode {
	case "", "DISABLE":
		return out, nil
	case "SIMPLE":
	case "MUTUAL":
		if t.ClientCertificate == "" || t.PrivateKey == "" {
			return nil, fmt.Errorf("tlsSettings: mode MUTUAL needs clientCertificate and privateKey")
		}
		tls.Certificate, tls.Key = t.ClientCertificate, t.PrivateKey
	case "ISTIO_MUTUAL":
		tls.Workload = true
	default:
		return nil, fmt.Errorf("tlsSettings: mode %q: want DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL", t.Mode)
	}
	out.TLS = tls
	return out, nil
}

// serviceCluster is the name that traces have for the workload (field
// tracingServiceName), unless serviceCluster says one.
func (s *settings) serviceCluster() string {
	if c := s.proxy.ServiceCluster; c != "" && c != "istio-proxy" { // Istio's default of it
		return c
	}
	name := s.node.Labels["service.istio.io/canonical-name"]
	for _, other := range []string{s.node.Labels["app.kubernetes.io/name"], s.node.Labels["app"], s.node.Workload, "istio-proxy"} {
		if name == "" {
			name = other
		}
	}
	switch s.proxy.TracingServiceName {
	case "CANONICAL_NAME_ONLY":
		return name
	case "CANONICAL_NAME_AND_NAMESPACE":
		return name + "." + s.node.Namespace
	}
	return ""
}
