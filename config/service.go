package config

import (
	"slices"
	"sort"
	"strings"
)

// Protocol is how a port's bytes are understood.
type Protocol string

// The protocols of Istio's protocol selection. Unset means to sniff.
const (
	ProtocolUnset   Protocol = ""
	ProtocolTCP     Protocol = "TCP"
	ProtocolUDP     Protocol = "UDP"
	ProtocolTLS     Protocol = "TLS"
	ProtocolHTTP    Protocol = "HTTP"
	ProtocolHTTP2   Protocol = "HTTP2"
	ProtocolHTTPS   Protocol = "HTTPS"
	ProtocolGRPC    Protocol = "GRPC"
	ProtocolGRPCWeb Protocol = "GRPC-Web"
	ProtocolMongo   Protocol = "Mongo"
	ProtocolRedis   Protocol = "Redis"
	ProtocolMySQL   Protocol = "MySQL"
	// ProtocolHTTPProxy is what Sidecar egress listeners and gateways call
	// HTTP_PROXY.
	ProtocolHTTPProxy Protocol = "HTTP_PROXY"
)

// ParseProtocol reads a protocol name as Istio does: case-insensitive, and
// unknown names mean Unset.
func ParseProtocol(s string) Protocol {
	switch strings.ToUpper(s) {
	case "TCP":
		return ProtocolTCP
	case "UDP":
		return ProtocolUDP
	case "TLS":
		return ProtocolTLS
	case "HTTP":
		return ProtocolHTTP
	case "HTTP2":
		return ProtocolHTTP2
	case "HTTPS":
		return ProtocolHTTPS
	case "GRPC":
		return ProtocolGRPC
	case "GRPC-WEB":
		return ProtocolGRPCWeb
	case "MONGO":
		return ProtocolMongo
	case "REDIS":
		return ProtocolRedis
	case "MYSQL":
		return ProtocolMySQL
	case "HTTP_PROXY":
		return ProtocolHTTPProxy
	}
	return ProtocolUnset
}

// IsHTTP reports whether requests, not connections, are routed.
func (p Protocol) IsHTTP() bool {
	switch p {
	case ProtocolHTTP, ProtocolHTTP2, ProtocolGRPC, ProtocolGRPCWeb, ProtocolHTTPProxy:
		return true
	}
	return false
}

// IsHTTP2 reports whether the upstream speaks HTTP/2 without being asked.
func (p Protocol) IsHTTP2() bool {
	return p == ProtocolHTTP2 || p == ProtocolGRPC || p == ProtocolGRPCWeb
}

// IsTLS reports whether connections are routed by SNI.
func (p Protocol) IsTLS() bool { return p == ProtocolTLS || p == ProtocolHTTPS }

// IsTCP reports whether connections are routed by address alone.
func (p Protocol) IsTCP() bool {
	switch p {
	case ProtocolTCP, ProtocolMongo, ProtocolRedis, ProtocolMySQL:
		return true
	}
	return false
}

// Resolution is how a client finds a service's endpoints.
type Resolution int

// The resolutions.
const (
	// ResolveEDS: the control plane sends the endpoints.
	ResolveEDS Resolution = iota
	// ResolveDNS: Envoy resolves the endpoints' names and uses every address.
	ResolveDNS
	// ResolveDNSRoundRobin: Envoy resolves and uses the first address when it
	// connects.
	ResolveDNSRoundRobin
	// ResolvePassthrough: connections go to their original destination.
	ResolvePassthrough
	// ResolveDynamicDNS: Envoy resolves the name that each request asks for.
	ResolveDynamicDNS
)

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string
	Number   uint32
	Protocol Protocol
	// TargetPort is the container port; TargetPortName its name if the
	// Service names it. At most one is set; neither means Number.
	TargetPort     uint32
	TargetPortName string
}

// Visibility is who may see an object: everyone, its own namespace, no one,
// or the named namespaces.
type Visibility struct {
	Public     bool
	None       bool
	Namespaces []string // sorted; the object's own is spelled out, never "."
}

// ParseVisibility reads an exportTo list for an object of namespace ns. An
// empty list means def.
func ParseVisibility(exportTo []string, ns string, def Visibility) Visibility {
	if len(exportTo) == 0 {
		return def
	}
	var v Visibility
	for _, e := range exportTo {
		switch e = strings.TrimSpace(e); e {
		case "*":
			return Visibility{Public: true}
		case "~":
			v.None = true
		case ".":
			v.Namespaces = append(v.Namespaces, ns)
		default:
			v.Namespaces = append(v.Namespaces, e)
		}
	}
	if v.None {
		return Visibility{None: true}
	}
	sort.Strings(v.Namespaces)
	return v
}

// To reports whether namespace ns can see the object.
func (v Visibility) To(ns string) bool {
	if v.Public {
		return true
	}
	for _, n := range v.Namespaces {
		if n == ns {
			return true
		}
	}
	return false
}

// Service is something a client can name: a Kubernetes Service, or one host
// of a ServiceEntry.
type Service struct {
	// Meta is that of the Service or ServiceEntry it came from.
	Meta
	// Hostname is the full name (reviews.shop.svc.cluster.local), lower case,
	// or a wildcard (*.example.com).
	Hostname string
	// Addresses are the virtual addresses (cluster IPs, or a ServiceEntry's
	// addresses and CIDRs), the first one primary. Empty for headless
	// services and hosts without an address.
	Addresses []string
	// AutoAddresses are addresses allocated by pilotfish for a ServiceEntry
	// host without one (status.addresses).
	AutoAddresses []string
	Ports         []ServicePort
	Resolution    Resolution
	// Headless: clusterIP None. Clients connect to the endpoints' addresses.
	Headless bool
	// ExternalName is the target of an ExternalName Service: an alias of that
	// name.
	ExternalName string
	// External: the workloads are outside the mesh (MESH_EXTERNAL, and
	// ExternalName Services).
	External bool
	// Kubernetes is false for hosts of ServiceEntries.
	Kubernetes bool
	ExportTo   Visibility
	// Selector picks the workloads behind it, in its own namespace. Nil picks
	// none.
	Selector        map[string]string
	SubjectAltNames []string
	PublishNotReady bool
	NodeLocal       bool   // internalTrafficPolicy: Local
	Distribution    string // spec.trafficDistribution or the annotation: PreferClose, PreferSameZone, PreferSameNode
	LoadBalancerIPs []string
}

// Port returns the port of that number.
func (s *Service) Port(number uint32) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return ServicePort{}, false
}

// PortNamed returns the port of that name.
func (s *Service) PortNamed(name string) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Name == name {
			return p, true
		}
	}
	return ServicePort{}, false
}

// ID names the service in maps: hosts repeat across namespaces.
func (s *Service) ID() ServiceID { return ServiceID{s.Hostname, s.Namespace} }

// ServiceID names a service: the same host may exist in several namespaces.
type ServiceID struct{ Hostname, Namespace string }

// Health is an endpoint's readiness.
type Health int

// The healths.
const (
	Healthy Health = iota
	Unhealthy
	// Draining: terminating but still serving.
	Draining
)

// Locality is where a workload runs: region/zone/subzone, each possibly empty.
type Locality struct{ Region, Zone, Subzone string }

// ParseLocality reads "region/zone/subzone", also with "." as separator.
func ParseLocality(s string) Locality {
	sep := "/"
	if !strings.Contains(s, "/") {
		sep = "."
	}
	parts := strings.SplitN(s, sep, 3)
	var l Locality
	l.Region = parts[0]
	if len(parts) > 1 {
		l.Zone = parts[1]
	}
	if len(parts) > 2 {
		l.Subzone = parts[2]
	}
	return l
}

// String is the slash form without trailing empty parts.
func (l Locality) String() string {
	return strings.TrimRight(l.Region+"/"+l.Zone+"/"+l.Subzone, "/")
}

// Endpoint is one address behind one port of a service.
type Endpoint struct {
	// Address is an IP, a DNS name, or unix:///path (Port is then 0).
	Address string
	// MoreAddresses are the same endpoint's other IP family's addresses.
	MoreAddresses []string
	Port          uint32
	Health        Health
	Weight        uint32 // 0 means 1
	Labels        map[string]string
	Locality      Locality
	Network       string
	Cluster       string
	Node          string
	Hostname      string // of a StatefulSet's pod in a headless Service
	Workload      string // the pod's or WorkloadEntry's name
	Namespace     string
	// ServiceAccount is the workload's account name; with the trust domain
	// and Namespace it gives its identity.
	ServiceAccount string
	// MTLS reports that the workload has a sidecar that accepts mesh mTLS
	// (label security.istio.io/tlsMode: istio).
	MTLS bool
}

// Endpoints are all endpoints of one service, by port name. Immutable; made by
// NewEndpoints.
type Endpoints struct {
	ID     ServiceID
	ByPort map[string][]Endpoint
	Hash   Hash
	// Accounts are the service accounts that the endpoints run as, as
	// namespace/account, sorted. Clients connect to nobody else by mesh TLS.
	Accounts []string
	// MeshTLS are the ports of which every endpoint accepts mesh TLS, sorted.
	MeshTLS []string
}

// NewEndpoints makes Endpoints of a service, whose content hash identifies.
func NewEndpoints(id ServiceID, byPort map[string][]Endpoint, hash Hash) *Endpoints {
	out := &Endpoints{ID: id, ByPort: byPort, Hash: hash}
	accounts := map[string]bool{}
	for port, list := range byPort {
		all := len(list) > 0
		for i := range list {
			all = all && list[i].MTLS
			if list[i].ServiceAccount != "" {
				accounts[list[i].Namespace+"/"+list[i].ServiceAccount] = true
			}
		}
		if all {
			out.MeshTLS = append(out.MeshTLS, port)
		}
	}
	for a := range accounts {
		out.Accounts = append(out.Accounts, a)
	}
	slices.Sort(out.Accounts)
	slices.Sort(out.MeshTLS)
	return out
}

// SamePeers reports whether clients must expect the same of both: the accounts
// and where mesh TLS is spoken. Either may be nil.
func (e *Endpoints) SamePeers(o *Endpoints) bool {
	a, b := e, o
	if a == nil {
		a = &Endpoints{}
	}
	if b == nil {
		b = &Endpoints{}
	}
	return slices.Equal(a.Accounts, b.Accounts) && slices.Equal(a.MeshTLS, b.MeshTLS)
}

// Workload is a Pod, a WorkloadEntry, or a pod that a template would make.
type Workload struct {
	Meta
	IPs            []string
	ServiceAccount string
	Node           string
	Locality       Locality
	Network        string
	Ready          bool
	HostNetwork    bool
	// Ports maps container port names to numbers.
	Ports map[string]uint32
	// Owner is the workload's controller, such as Deployment myapp-v1.
	Owner Key
}

// Selects reports whether every label of selector is on labels. An empty
// selector selects everything.
func Selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
