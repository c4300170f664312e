package translate

import (
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkServiceEntry(r *Report, m proto.Message) {
	e := m.(*networking.ServiceEntry)
	checkEntryHosts(r, e)
	checkEntryPorts(r, e)
	checkEntryAddresses(r, e)
	if e.GetWorkloadSelector() != nil && len(e.GetEndpoints()) > 0 {
		r.Errorf("Conflict", "has both workloadSelector and endpoints; want one of them")
	}
	switch e.GetResolution() {
	case networking.ServiceEntry_NONE:
		checkPassthroughEntry(r, e)
	case networking.ServiceEntry_STATIC:
		checkStaticEntry(r, e)
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		checkDNSEntry(r, e)
	case networking.ServiceEntry_DYNAMIC_DNS:
		checkDynamicEntry(r, e)
	}
	checkExportTo(r, e.GetExportTo(), exportRules{noOne: true})
}

func checkLocation(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.ServiceEntry_MESH_EXTERNAL.Descriptor(), v)
}

func checkResolution(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.ServiceEntry_NONE.Descriptor(), v)
}

func checkEntryHosts(r *Report, e *networking.ServiceEntry) {
	if len(e.GetHosts()) == 0 {
		r.ErrorAt("hosts", "Required", "is empty; want at least one host")
	}
	seen := map[string]bool{}
	for i, h := range e.GetHosts() {
		at := indexed("hosts", i)
		switch fault := hostFault(h, true); {
		case h == "*":
			r.ErrorAt(at, "HostInvalid", `is "*"; a service cannot be every host, want at least *.domain`)
		case fault != "":
			r.ErrorAt(at, "HostInvalid", "%s", fault)
		case seen[strings.ToLower(h)]:
			r.WarnAt(at, "Duplicate", "is %s, which is there already", shown(h))
		case strings.HasPrefix(h, "*") && !strings.HasPrefix(h, "*.") && e.GetResolution() != networking.ServiceEntry_DYNAMIC_DNS:
			r.WarnAt(at, "HostInvalid", "is %s, a wildcard for part of a label, which only works for HTTP; want *.domain", shown(h))
		}
		seen[strings.ToLower(h)] = true
	}
}

func checkEntryPorts(r *Report, e *networking.ServiceEntry) {
	names, numbers := map[string]bool{}, map[uint32]bool{}
	for i, p := range e.GetPorts() {
		if names[p.GetName()] {
			r.ErrorAt(indexed("ports", i)+".name", "Duplicate", "is %s, which another port has", shown(p.GetName()))
		}
		if numbers[p.GetNumber()] {
			r.ErrorAt(indexed("ports", i)+".number", "Duplicate", "is %d, which another port has", p.GetNumber())
		}
		names[p.GetName()], numbers[p.GetNumber()] = true, true
	}
	if len(e.GetHosts()) < 2 || e.GetResolution() == networking.ServiceEntry_NONE {
		return
	}
	for i, p := range e.GetPorts() {
		if proto := config.ParseProtocol(p.GetProtocol()); !proto.IsHTTP() && !proto.IsTLS() {
			r.ErrorAt(indexed("ports", i)+".protocol", "Conflict",
				"is %s, which cannot tell the %d hosts apart; want HTTP or TLS, or one ServiceEntry a host", shown(p.GetProtocol()), len(e.GetHosts()))
		}
	}
}

func checkServicePort(r *Report, m proto.Message) {
	p := m.(*networking.ServicePort)
	if n := p.GetNumber(); n < 1 || n > 65535 {
		r.ErrorAt("number", "PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
	if n := p.GetName(); len(n) > maxLabel || !dnsLabel.MatchString(n) {
		r.ErrorAt("name", "NameInvalid", "is %s; want a DNS label (letters, digits and dashes, up to 63)", shown(n))
	}
}

// checkProtocol refuses protocols that no port can have; without one the
// proxy finds out.
func checkProtocol(r *Report, v protoreflect.Value) {
	if s := v.String(); s != "" && config.ParseProtocol(s) == config.ProtocolUnset {
		r.Errorf("ProtocolUnknown", "is %s; want HTTP, HTTPS, HTTP2, GRPC, GRPC-Web, TLS, TCP, MONGO, REDIS, MYSQL or UDP", shown(s))
	}
}

func checkSubnet(r *Report, v protoreflect.Value) {
	s := v.String()
	if strings.Contains(s, "/") {
		if _, err := netip.ParsePrefix(s); err != nil {
			r.Errorf("AddressInvalid", "is %s; want an IP address or a CIDR such as 10.0.0.0/8", shown(s))
		}
		return
	}
	if !isAddress(s) {
		r.Errorf("AddressInvalid", "is %s; want an IP address or a CIDR such as 10.0.0.0/8", shown(s))
	}
}

func checkEntryAddresses(r *Report, e *networking.ServiceEntry) {
	for i, a := range e.GetAddresses() {
		switch e.GetResolution() {
		case networking.ServiceEntry_NONE, networking.ServiceEntry_STATIC, networking.ServiceEntry_DYNAMIC_DNS:
			continue
		}
		if strings.Contains(a, "/") {
			r.ErrorAt(indexed("addresses", i), "Conflict", "is the CIDR %s; only resolution NONE and STATIC take those", shown(a))
		}
	}
}

func checkPassthroughEntry(r *Report, e *networking.ServiceEntry) {
	if len(e.GetEndpoints()) > 0 {
		r.ErrorAt("endpoints", "Conflict", "are there, but resolution NONE sends connections to their original destination; want STATIC or DNS, or no endpoints")
	}
	if e.GetWorkloadSelector() != nil {
		r.WarnAt("workloadSelector", "NoEffect", "has no effect with resolution NONE; want STATIC")
	}
	for i, p := range e.GetPorts() {
		switch config.ParseProtocol(p.GetProtocol()) {
		case config.ProtocolTCP, config.ProtocolUnset:
			if len(e.GetAddresses()) == 0 {
				r.WarnAt(indexed("ports", i), "AddressMissing",
					"is TCP without addresses, so connections to any address on port %d count as this service's; want addresses", p.GetNumber())
			}
		}
	}
}

func checkStaticEntry(r *Report, e *networking.ServiceEntry) {
	for i, ep := range e.GetEndpoints() {
		at := indexed("endpoints", i)
		a := ep.GetAddress()
		switch {
		case strings.HasPrefix(a, "unix://"):
			if len(e.GetPorts()) != 1 {
				r.ErrorAt(at+".address", "Conflict", "is a Unix socket, which serves one port; the entry has %d", len(e.GetPorts()))
			}
		case a == "" && ep.GetNetwork() != "":
		case !isAddress(a):
			r.ErrorAt(at+".address", "AddressInvalid", "is %s; resolution STATIC wants an IP address or unix:///path, DNS takes names", shown(a))
		}
		checkEndpointPorts(r, at, e, ep)
	}
}

func checkDNSEntry(r *Report, e *networking.ServiceEntry) {
	for i, h := range e.GetHosts() {
		if len(e.GetEndpoints()) == 0 && e.GetWorkloadSelector() == nil && strings.HasPrefix(h, "*") {
			r.ErrorAt(indexed("hosts", i), "HostInvalid",
				"is %s, which cannot be resolved; want endpoints, a full host, or resolution DYNAMIC_DNS or NONE", shown(h))
		}
	}
	if e.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN && len(e.GetEndpoints()) > 1 {
		r.ErrorAt("endpoints", "TooMany", "are %d; DNS_ROUND_ROBIN takes one, DNS several", len(e.GetEndpoints()))
	}
	for i, ep := range e.GetEndpoints() {
		at := indexed("endpoints", i)
		if a := ep.GetAddress(); !isAddress(a) {
			if fault := hostFault(a, false); fault != "" {
				r.ErrorAt(at+".address", "AddressInvalid", "%s; want an IP address or a host name", fault)
			}
		}
		checkEndpointPorts(r, at, e, ep)
	}
}

func checkEndpointPorts(r *Report, at string, e *networking.ServiceEntry, ep *networking.WorkloadEntry) {
	names := map[string]bool{}
	for _, p := range e.GetPorts() {
		names[p.GetName()] = true
	}
	for _, name := range sortedKeys(ep.GetPorts()) {
		if !names[name] {
			r.ErrorAt(at+".ports["+name+"]", "PortUnknown", "is no port of the entry, which has %s", strings.Join(sortedKeys(names), ", "))
		}
	}
}

func checkDynamicEntry(r *Report, e *networking.ServiceEntry) {
	for i, h := range e.GetHosts() {
		if !strings.HasPrefix(h, "*") {
			r.ErrorAt(indexed("hosts", i), "HostInvalid", "is %s; DYNAMIC_DNS is for wildcards, DNS for one host", shown(h))
		}
	}
	if len(e.GetAddresses()) > 0 {
		r.ErrorAt("addresses", "Conflict", "are set, but DYNAMIC_DNS resolves the host of each request; leave them out")
	}
	if len(e.GetEndpoints()) > 0 {
		r.ErrorAt("endpoints", "Conflict", "are set, but DYNAMIC_DNS resolves the host of each request; leave them out")
	}
	for i, p := range e.GetPorts() {
		switch config.ParseProtocol(p.GetProtocol()) {
		case config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolGRPC, config.ProtocolTLS:
		default:
			r.ErrorAt(indexed("ports", i)+".protocol", "Conflict", "is %s; DYNAMIC_DNS needs a host in each request: HTTP, HTTP2, GRPC or TLS", shown(p.GetProtocol()))
		}
	}
}
