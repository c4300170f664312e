package config

import (
	"strconv"
	"strings"
)

// ProxyType is the first part of a node id.
type ProxyType string

// The proxy types.
const (
	Sidecar ProxyType = "sidecar"
	Router  ProxyType = "router"
)

// Interception is how a sidecar gets its traffic.
type Interception string

// The interception modes.
const (
	Redirect Interception = "REDIRECT"
	TProxy   Interception = "TPROXY"
	NoneMode Interception = "NONE"
)

// Proxy is one connected Envoy, as its node id and metadata describe it.
// Immutable.
type Proxy struct {
	// ID is the node id: type~ip~name.namespace~domain.
	ID             string
	Type           ProxyType
	IPs            []string // the first one primary
	Name           string
	Namespace      string
	DNSDomain      string // shop.svc.cluster.local
	Labels         map[string]string
	Annotations    map[string]string
	ServiceAccount string
	Cluster        string // CLUSTER_ID
	NodeName       string
	Network        string
	Locality       Locality
	Interception   Interception
	Workload       string // WORKLOAD_NAME
	ServiceCluster string // Envoy's own name for itself and its like
	// Unproven: nothing proves that it is who it says, so it is sent nothing
	// secret. Not part of its metadata.
	Unproven bool
	// Certificates: an agent beside the proxy serves it a certificate of the
	// mesh's authority, so it can speak mesh TLS.
	Certificates bool
	// Telemetry: an agent beside the proxy takes its access log, on the
	// bootstrap's cluster pilotfish-telemetry, and makes metrics of it.
	Telemetry bool
	// Modules: an agent beside the proxy serves the configuration of Wasm
	// extensions over ECDS, on the bootstrap's cluster pilotfish-modules, with
	// the modules in place.
	Modules bool
	// Group is metadata AUTO_REGISTER_GROUP: the WorkloadGroup that the proxy of a
	// workload outside of Kubernetes registers itself with. Entry is metadata
	// WORKLOAD_ENTRY: the WorkloadEntry that it stands for.
	Group, Entry string
	// HealthChecks: the agent probes the workload and reports its health.
	HealthChecks bool
	// Extensions are the names in Node.extensions, sorted. A stock Envoy does
	// not carry Istio's own.
	Extensions []string
	// EnvoyVersion is "1.40.0", or empty.
	EnvoyVersion string
	// Unprivileged: cannot bind ports below 1024 (UNPRIVILEGED_POD).
	Unprivileged bool
	// Generator is metadata GENERATOR: "grpc" for proxyless clients.
	Generator string
	// DNSCapture is metadata DNS_CAPTURE.
	DNSCapture bool
	// Local, set for proxies of a mesh on one machine without network
	// namespaces, says which addresses stand for the pod's own.
	Local *LocalAddresses
	// Raw is what else of the metadata translation reads, by key.
	Raw map[string]string
}

// LocalAddresses lets many sidecars share one machine's loopback
// (interception NONE). Metadata PILOTFISH_LOCAL.
type LocalAddresses struct {
	// Outbound is where the sidecar's outbound listeners bind.
	Outbound string
	// App is where the application listens: the target of inbound clusters.
	App string
	// PortBase is added to listener ports below 1024, which an unprivileged
	// process cannot bind.
	PortBase uint32
	// OwnResolver: the proxy's bootstrap says whom to ask for names, and
	// clusters must not override it. Also of proxies with a network of their own.
	OwnResolver bool
}

// IPv6Only reports whether the proxy has no IPv4 address.
func (p *Proxy) IPv6Only() bool {
	for _, ip := range p.IPs {
		for i := 0; i < len(ip); i++ {
			if ip[i] == '.' {
				return false
			}
			if ip[i] == ':' {
				break
			}
		}
	}
	return len(p.IPs) > 0
}

// EnvoyBefore reports whether the proxy's Envoy is of an older release than
// major.minor. One that does not say its version is not.
func (p *Proxy) EnvoyBefore(major, minor int) bool {
	first, rest, _ := strings.Cut(p.EnvoyVersion, ".")
	second, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	return err == nil && err2 == nil && (m < major || m == major && n < minor)
}

// HasExtension reports whether the proxy's Envoy was built with an extension.
func (p *Proxy) HasExtension(name string) bool {
	for _, e := range p.Extensions {
		if e == name {
			return true
		}
	}
	return false
}
