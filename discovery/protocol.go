package discovery

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// portProtocol is the protocol of a Service's port as Istio's protocol
// selection gives it: appProtocol first, then the prefix of the port's name;
// a well-known port whose server speaks first is TCP rather than sniffed.
func portProtocol(p *corev1.ServicePort) config.Protocol {
	if p.Protocol == corev1.ProtocolUDP {
		return config.ProtocolUDP
	}
	text := p.Name
	if p.AppProtocol != nil {
		text = *p.AppProtocol
		switch text {
		case "kubernetes.io/h2c":
			return config.ProtocolHTTP2
		case "kubernetes.io/ws":
			return config.ProtocolHTTP
		case "kubernetes.io/wss":
			return config.ProtocolHTTPS
		}
	}
	// The only protocol whose own name has a dash.
	const grpcWeb = "grpc-web"
	if len(text) >= len(grpcWeb) && strings.EqualFold(text[:len(grpcWeb)], grpcWeb) {
		return config.ProtocolGRPCWeb
	}
	prefix, _, _ := strings.Cut(text, "-")
	proto := config.ParseProtocol(prefix)
	if proto == config.ProtocolHTTPProxy || proto == config.ProtocolUnset {
		switch p.Port {
		case 25, 53, 3306, 27017: // SMTP, DNS, MySQL, MongoDB
			return config.ProtocolTCP
		}
		return config.ProtocolUnset
	}
	return proto
}
