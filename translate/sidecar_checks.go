package translate

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkSidecar(r *Report, m proto.Message) {
	s, _ := m.(*networking.Sidecar)
	if len(s.GetEgress())+len(s.GetIngress()) == 0 && s.GetOutboundTrafficPolicy() == nil && s.GetInboundConnectionPool() == nil {
		r.Errorf("Missing", "says nothing: want egress, ingress, outboundTrafficPolicy or inboundConnectionPool")
	}
	if sel := s.GetWorkloadSelector(); sel != nil && len(sel.GetLabels()) == 0 {
		r.WarnAt("workloadSelector", "SelectorEmpty", "has no labels, so it selects every workload of the namespace")
	}
	ports := map[uint32]int{}
	for i, l := range s.GetIngress() {
		if first, ok := ports[l.GetPort().GetNumber()]; ok && l.GetPort() != nil {
			r.ErrorAt(indexed("ingress", i)+".port.number", "Duplicate", "is %d, as that of ingress[%d]", l.GetPort().GetNumber(), first)
		}
		ports[l.GetPort().GetNumber()] = i
	}
	checkEgressPorts(r, s.GetEgress())
}

// checkEgressPorts wants each socket once, and at most one listener for all
// other ports, at the end: it adds to what the others leave.
func checkEgressPorts(r *Report, egress []*networking.IstioEgressListener) {
	seen := map[string]int{}
	for i, l := range egress {
		at := indexed("egress", i)
		if l.GetPort() == nil {
			if i != len(egress)-1 {
				r.ErrorAt(at, "Order", "has no port, so it is for all ports that others leave; only the last one may be that")
			}
			continue
		}
		socket := strconv.FormatUint(uint64(l.GetPort().GetNumber()), 10)
		if l.GetPort().GetNumber() == 0 {
			socket = l.GetBind()
		}
		if first, ok := seen[socket]; ok {
			r.ErrorAt(at+".port", "Duplicate", "is that of egress[%d]: %s", first, shown(socket))
		}
		seen[socket] = i
	}
}

func checkSelectorLabels(r *Report, m proto.Message) {
	s, _ := m.(*networking.WorkloadSelector)
	checkLabelKeys(r, "labels", s.GetLabels())
}

func checkIngress(r *Report, m proto.Message) {
	l, _ := m.(*networking.IstioIngressListener)
	port := l.GetPort()
	if port == nil {
		r.ErrorAt("port", "Missing", "is not set; want number and protocol")
		return
	}
	if n := port.GetNumber(); n < 1 || n > 65535 {
		r.ErrorAt("port.number", "PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
	p := config.ParseProtocol(port.GetProtocol())
	if l.GetConnectionPool().GetHttp() != nil && !p.IsHTTP() {
		r.WarnAt("connectionPool.http", "NoEffect", "has no effect: the port speaks %s, not HTTP", port.GetProtocol())
	}
	tls := l.GetTls()
	if tls == nil {
		return
	}
	if !p.IsTLS() {
		r.ErrorAt("tls", "Conflict", "is set, but the port speaks %s; use HTTPS or TLS", port.GetProtocol())
	}
	switch {
	case tls.GetMode() == networking.ServerTLSSettings_ISTIO_MUTUAL || tls.GetMode() == networking.ServerTLSSettings_AUTO_PASSTHROUGH:
		r.ErrorAt("tls.mode", "ValueInvalid", "is %s; a sidecar takes TLS off with SIMPLE, MUTUAL or OPTIONAL_MUTUAL", tls.GetMode())
	case tls.GetHttpsRedirect():
		r.ErrorAt("tls.httpsRedirect", "Conflict", "is for gateways")
	case len(tls.GetSubjectAltNames()) > 0:
		r.ErrorAt("tls.subjectAltNames", "Conflict", "is for gateways")
	case tls.GetCredentialName() != "" || len(tls.GetCredentialNames()) > 0 || len(tls.GetTlsCertificates()) > 0:
		r.ErrorAt("tls", "Conflict", "takes its certificate from a place that is for gateways; use serverCertificate and privateKey")
	}
}

func checkEgress(r *Report, m proto.Message) {
	l, _ := m.(*networking.IstioEgressListener)
	if len(l.GetHosts()) == 0 {
		r.ErrorAt("hosts", "Missing", `is empty; want namespace/name, such as "./*", or "~/*" for nothing`)
	}
	warnOfTwins(r, l.GetHosts())
	for i, h := range l.GetHosts() {
		if h == "*/*" && len(l.GetHosts()) > 1 && !excludesSome(l.GetHosts()) {
			r.WarnAt(indexed("hosts", i), "Duplicate", "imports everything, so the other hosts say nothing")
		}
	}
	_, unix := unixPath(l.GetBind())
	switch port := l.GetPort(); {
	case port == nil:
	case port.GetNumber() == 0 && !unix:
		r.ErrorAt("port.number", "PortInvalid", "is 0, which is for Unix domain sockets; want a port, or bind: unix:///path")
	case port.GetNumber() == 0 && l.GetCaptureMode() == networking.CaptureMode_IPTABLES:
		r.ErrorAt("captureMode", "Conflict", "is IPTABLES, but connections to a Unix domain socket are not redirected")
	case port.GetNumber() != 0 && unix:
		r.ErrorAt("port.number", "PortInvalid", "is %d; a Unix domain socket has none, so want 0", port.GetNumber())
	case port.GetNumber() > 65535:
		r.ErrorAt("port.number", "PortInvalid", "is %d; want a port from 1 to 65535", port.GetNumber())
	}
}

func excludesSome(hosts []string) bool {
	for _, h := range hosts {
		if strings.HasPrefix(h, "~") {
			return true
		}
	}
	return false
}

// checkEgressHost is for namespace/name, with "~" before a namespace that is
// excluded.
func checkEgressHost(r *Report, v protoreflect.Value) {
	ns, name, ok := strings.Cut(v.String(), "/")
	if !ok {
		r.Errorf("HostInvalid", `is %s; want namespace/name, such as "./*" or "*/%s"`, shown(v.String()), v.String())
		return
	}
	ns, excluded := strings.CutPrefix(ns, "~")
	if ns != "*" && ns != "." && !(excluded && ns == "") && (len(ns) > maxLabel || !dnsLabel.MatchString(ns)) {
		r.Errorf("HostInvalid", `is %s; want a namespace, "." or "*" before the slash`, shown(v.String()))
		return
	}
	if fault := hostFault(name, true); fault != "" {
		r.Errorf("HostInvalid", "%s", fault)
		return
	}
	if !strings.Contains(name, ".") && name != "*" {
		if ns == "." || ns == "*" {
			ns = r.Meta().Namespace
		}
		r.Warnf("HostNotQualified", "is %s: the name has no dots, but want the full one, such as %s.%s.svc.cluster.local", shown(v.String()), name, ns)
	}
}

func checkAddress(r *Report, v protoreflect.Value) {
	if !isAddress(v.String()) {
		r.Errorf("AddressInvalid", "is %s; want an IP address", shown(v.String()))
	}
}

// checkDefaultEndpoint is for the application's address: on the loopback, on
// the workload's own address (0.0.0.0 and ::), or a Unix domain socket.
func checkDefaultEndpoint(r *Report, v protoreflect.Value) {
	if path, unix := unixPath(v.String()); unix {
		if fault := socketFault(path); fault != "" {
			r.Errorf("AddressInvalid", "%s", fault)
		}
		return
	}
	host, port, err := net.SplitHostPort(v.String())
	known := host == ""
	if a, parsed := netip.ParseAddr(host); parsed == nil {
		known = a == netip.MustParseAddr("127.0.0.1") || a == netip.IPv6Loopback() || a.IsUnspecified()
	}
	if err != nil || !known {
		r.Errorf("AddressInvalid", "is %s; want 127.0.0.1:port, [::1]:port, 0.0.0.0:port, [::]:port or unix:///path", shown(v.String()))
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		r.Errorf("PortInvalid", "is %s; want a port from 1 to 65535 after the colon", shown(v.String()))
	}
}

func checkListenerProtocol(r *Report, v protoreflect.Value) {
	if config.ParseProtocol(v.String()) == config.ProtocolUnset || config.ParseProtocol(v.String()) == config.ProtocolUDP {
		r.Errorf("ProtocolInvalid", "is %s; want HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, MYSQL, TCP, TLS or HTTP_PROXY", shown(v.String()))
	}
}

func checkOutboundPolicy(r *Report, m proto.Message) {
	p, _ := m.(*networking.OutboundTrafficPolicy)
	if p.GetEgressProxy() == nil {
		return
	}
	if p.GetMode() != networking.OutboundTrafficPolicy_ALLOW_ANY {
		r.ErrorAt("egressProxy", "Conflict", "is set, but mode %s lets nothing through to it; use ALLOW_ANY", p.GetMode())
	}
	if p.GetEgressProxy().GetPort().GetNumber() == 0 {
		r.ErrorAt("egressProxy.port", "Missing", "is not set; want the proxy's port")
	}
}
