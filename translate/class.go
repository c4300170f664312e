package translate

import (
	"sort"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Side is the part of a proxy's configuration that a Class stands for.
type Side int

// The sides. A sidecar has an Outbound and an Inbound class, a gateway one
// Gateway class; a proxy is served the union of its classes' resources.
const (
	// Outbound: what the application calls. Shared by a whole namespace, as
	// long as no selector tells its workloads apart.
	Outbound Side = iota
	// Inbound: what calls the application. Shared by a workload's replicas.
	Inbound
	// GatewaySide: everything of a gateway.
	GatewaySide
)

// Class is everything about a proxy that its Scope may depend on. Comparable;
// proxies of equal classes share a Scope.
type Class struct {
	Side      Side
	Namespace string
	// Labels are the proxy's labels that some selector of this side really
	// tests, in canonical form (see labelsOf).
	Labels string
	Traits Traits
}

// Traits are what a proxy can do and how it is set up. Comparable.
type Traits struct {
	Interception config.Interception
	DNSDomain    string
	IPv6Only     bool
	// DualStack: the proxy has addresses of both families.
	DualStack    bool
	Unprivileged bool
	DNSCapture   bool
	// Addresses is the proxy's own address list, set only where listeners
	// bind to it (interception NONE). Local are the addresses that stand for
	// the pod's own in a mesh on one machine.
	Addresses string
	Local     config.LocalAddresses
	// IstioFilters: the Envoy carries Istio's own extensions.
	IstioFilters bool
	// Certificates: the proxy has certificates for mesh TLS.
	Certificates bool
	// Telemetry: an agent makes metrics of the proxy's access log.
	Telemetry bool
	// TLSMode: the workload's label says that it takes mesh TLS. Inbound side of
	// gRPC servers only.
	TLSMode bool
	// PlainTags: the Envoy knows no tags that are formats (CustomTag.value, since
	// 1.37), and rejects listeners that have one.
	PlainTags bool
	// Modules: an agent fetches Wasm modules for the proxy.
	Modules bool
	// SetsState: the Envoy has no Istio filters, but can set filter state for a
	// request, by which requests tell a mesh TLS connection what they are.
	SetsState bool
	// DNSCluster: the Envoy knows the extension that resolves names.
	DNSCluster   bool
	Generator    string
	EnvoyVersion string
	// Ports are the named container ports that some Service's targetPort or
	// Gateway may mean, "name=number,...", sorted. Inbound and GatewaySide
	// only.
	Ports string
	// Near is where the proxy runs, set only if some cluster orders endpoints
	// that it carries by that (see Index.nearOf).
	Near Viewer
	// ProxyConfig is the canonical JSON of the proxy's own ProxyConfig
	// metadata, as far as translation reads it.
	ProxyConfig string
	// Unproven: the proxy is sent no values of variables. Set only where there
	// are some.
	Unproven bool
	// FollowsParent: the Envoy's OpenTelemetry tracer has samplers that follow a
	// decision made before.
	FollowsParent bool
	// ServiceCluster is Envoy's, by which traces name the proxy; set only where
	// a tracer wants it from its configuration (see Index.tracedAs).
	ServiceCluster string
	// Version and Metadata are what of the proxy's metadata some EnvoyFilter
	// tests: its version, and lines of "key"="value".
	Version, Metadata string
}

// canonicalLabels is "k=v,k=v" of the named keys that labels has, sorted by
// key; keys is sorted.
func canonicalLabels(labels map[string]string, keys []string) string {
	var b strings.Builder
	for _, k := range keys {
		v, ok := labels[k]
		if !ok {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(v)
	}
	return b.String()
}

// parseLabels is the inverse of canonicalLabels. Label values cannot contain
// "," or "=" (Kubernetes' label syntax).
func parseLabels(s string) map[string]string {
	out := map[string]string{}
	if s == "" {
		return out
	}
	for _, kv := range strings.Split(s, ",") {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

// labelKeys collects the keys of label selectors.
type labelKeys map[string]bool

func (l labelKeys) add(selectors ...map[string]string) {
	for _, s := range selectors {
		for k := range s {
			l[k] = true
		}
	}
}

func (l labelKeys) sorted() []string {
	out := make([]string, 0, len(l))
	for k := range l {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Classes returns a proxy's classes: what it is served is the union of their
// scopes' resources.
func (ix *Index) Classes(p *config.Proxy) []Class {
	t := traitsOf(p)
	t.Near = ix.nearOf(p)
	t.ServiceCluster = ix.tracedAs(p)
	t.Unproven = p.Unproven && len(ix.mesh.Settings.Environment.Values()) > 0
	ix.envoyFilters.addTo(&t, p)
	in := t
	in.Near = Viewer{}
	in.Ports = ix.namedPorts(p)
	if p.Generator == grpcGenerator {
		in.Addresses, in.TLSMode = strings.Join(p.IPs, ","), p.Labels["security.istio.io/tlsMode"] == tlsModeIstio
	}
	if p.Type == config.Router {
		in.Near = t.Near
		return []Class{{GatewaySide, p.Namespace, canonicalLabels(p.Labels, ix.testedGateway), in}}
	}
	return []Class{
		{Outbound, p.Namespace, canonicalLabels(p.Labels, ix.testedOutbound), t},
		{Inbound, p.Namespace, canonicalLabels(p.Labels, ix.testedInbound), in},
	}
}

func traitsOf(p *config.Proxy) Traits {
	plain := p.EnvoyBefore(1, 37)
	t := Traits{
		Interception:  p.Interception,
		DNSDomain:     p.DNSDomain,
		IPv6Only:      p.IPv6Only(),
		DualStack:     bothFamilies(p.IPs),
		Unprivileged:  p.Unprivileged,
		DNSCapture:    p.DNSCapture,
		IstioFilters:  p.HasExtension("istio.stats"),
		Certificates:  p.Certificates,
		Telemetry:     p.Telemetry && !plain, // its log has such tags
		PlainTags:     plain,
		Modules:       p.Modules,
		SetsState:     p.HasExtension(stateFilter) && !p.HasExtension("istio.stats"),
		DNSCluster:    p.HasExtension(dnsClusterName),
		FollowsParent: p.HasExtension(parentSampler) && p.HasExtension(ratioSampler),
		Generator:     p.Generator,
		ProxyConfig:   p.Raw["PROXY_CONFIG"],
	}
	if p.Interception == config.NoneMode {
		t.Addresses = strings.Join(p.IPs, ",")
	}
	if p.Local != nil {
		t.Local = *p.Local
	}
	return t
}

// ViewerOf is what of a proxy its endpoint assignments may depend on.
func ViewerOf(p *config.Proxy) Viewer {
	return Viewer{
		Locality: p.Locality, Network: p.Network, Cluster: p.Cluster, Node: p.NodeName,
		Labels: canonicalLabels(p.Labels, labelKeysOf(p.Labels)),
	}
}

func labelKeysOf(labels map[string]string) []string {
	keys := labelKeys{}
	keys.add(labels)
	return keys.sorted()
}
