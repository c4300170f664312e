package translate

import (
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkGateway(r *Report, m proto.Message) {
	gw, _ := m.(*networking.Gateway)
	checkLabelKeys(r, "selector", gw.GetSelector())
	if name := r.Meta().Name; len(name) > maxLabel || !dnsLabel.MatchString(name) {
		r.Errorf("NameInvalid", "the name %s has more than letters, digits and dashes: it becomes a part of route names", shown(name))
	}
	if len(gw.GetServers()) == 0 {
		r.ErrorAt("servers", "Missing", "is empty; want at least one server")
	}
	names := map[string]int{}
	for i, s := range gw.GetServers() {
		n := s.GetPort().GetName()
		if first, ok := names[n]; ok && s.GetPort() != nil {
			r.ErrorAt(indexed("servers", i)+".port.name", "Duplicate", "is %s, as that of servers[%d]; port names tell the servers of a Gateway apart", shown(n), first)
			continue
		}
		names[n] = i
	}
}

func checkServer(r *Report, m proto.Message) {
	s, _ := m.(*networking.Server)
	if len(s.GetHosts()) == 0 {
		r.ErrorAt("hosts", "Missing", `is empty; want at least one host, or "*"`)
	}
	warnOfTwins(r, s.GetHosts())
	port, tls := s.GetPort(), s.GetTls()
	if port == nil {
		r.ErrorAt("port", "Missing", "is not set; want number, name and protocol")
		return
	}
	if _, unix := unixPath(s.GetBind()); unix {
		if port.GetNumber() != 0 {
			r.ErrorAt("port.number", "PortInvalid", "is %d; a Unix domain socket has none, so want 0", port.GetNumber())
		}
	} else if n := port.GetNumber(); n < 1 || n > 65535 {
		r.ErrorAt("port.number", "PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
	if port.GetName() == "" {
		r.ErrorAt("port.name", "Missing", "is empty; want a name for the port")
	}
	switch p := config.ParseProtocol(port.GetProtocol()); {
	case p.IsTLS() && tls == nil:
		r.ErrorAt("tls", "Missing", "is not set, but port %s speaks %s; want the TLS mode and a certificate", shown(port.GetName()), p)
	case p.IsHTTP() && tls != nil && (!passesThrough(tls) || tls.GetServerCertificate() != "" || tls.GetCredentialName() != ""):
		r.ErrorAt("tls", "Conflict", "is set for plain %s, which only knows httpsRedirect; use protocol HTTPS to serve TLS", p)
	case !p.IsHTTP() && !p.IsTLS() && tls != nil:
		r.ErrorAt("tls", "Conflict", "is set for %s; use protocol TLS to take TLS off connections", p)
	case !p.IsHTTP() && tls.GetHttpsRedirect():
		r.WarnAt("tls.httpsRedirect", "NoEffect", "has no effect on %s: only plain requests can be redirected", p)
	}
}

func checkBind(r *Report, v protoreflect.Value) {
	if path, unix := unixPath(v.String()); unix {
		if fault := socketFault(path); fault != "" {
			r.Errorf("AddressInvalid", "%s", fault)
		}
		return
	}
	if _, err := netip.ParseAddr(v.String()); err != nil {
		r.Errorf("AddressInvalid", "is %s; want an IP address or unix:///path", shown(v.String()))
	}
}

// checkServerHost is for host, */host, ./host and namespace/host.
func checkServerHost(r *Report, v protoreflect.Value) {
	host := v.String()
	if ns, name, ok := strings.Cut(host, "/"); ok {
		if ns != "*" && ns != "." && (len(ns) > maxLabel || !dnsLabel.MatchString(ns)) {
			r.Errorf("HostInvalid", `is %s; want a namespace, "." or "*" before the slash`, shown(host))
			return
		}
		host = name
	}
	if fault := hostFault(host, true); fault != "" {
		r.Errorf("HostInvalid", "%s", fault)
	}
}

func checkServerProtocol(r *Report, v protoreflect.Value) {
	switch config.ParseProtocol(v.String()) {
	case config.ProtocolUnset, config.ProtocolUDP, config.ProtocolHTTPProxy:
		r.Errorf("ProtocolInvalid", "is %s; want HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, MYSQL, TCP or TLS", shown(v.String()))
	}
}

func checkServerTLSMode(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.ServerTLSSettings_TLSmode(0).Descriptor(), v)
}

func checkServerTLS(r *Report, m proto.Message) {
	t, _ := m.(*networking.ServerTLSSettings)
	sources := certificateSources(t)
	switch mode := t.GetMode(); {
	case mode == networking.ServerTLSSettings_ISTIO_MUTUAL:
		if t.GetCaCertificates() != "" {
			sources = append(sources, "caCertificates")
		}
		if len(sources) > 0 {
			r.Errorf("Conflict", "mode ISTIO_MUTUAL takes the workload's own certificate; leave %s out", strings.Join(sources, " and "))
		}
	case passesThrough(t):
		if len(sources) > 0 {
			r.Warnf("NoEffect", "mode %s forwards TLS as it is, so %s has no effect", mode, strings.Join(sources, " and "))
		}
	case len(sources) > 1:
		r.Errorf("Conflict", "has %s; want the certificate from one place", strings.Join(sources, " and "))
	case len(sources) == 0:
		r.Errorf("Missing", "mode %s needs a certificate: set credentialName, or serverCertificate and privateKey", mode)
	default:
		checkServedTLS(r, t)
	}
}

// certificateSources names the fields that say where a certificate is from.
func certificateSources(t *networking.ServerTLSSettings) []string {
	var out []string
	if t.GetServerCertificate() != "" || t.GetPrivateKey() != "" {
		out = append(out, "serverCertificate/privateKey")
	}
	if t.GetCredentialName() != "" {
		out = append(out, "credentialName")
	}
	if len(t.GetCredentialNames()) > 0 {
		out = append(out, "credentialNames")
	}
	if len(t.GetTlsCertificates()) > 0 {
		out = append(out, "tlsCertificates")
	}
	return out
}

func checkServedTLS(r *Report, t *networking.ServerTLSSettings) {
	fromSecret := t.GetCredentialName() != "" || len(t.GetCredentialNames()) > 0
	if len(t.GetTlsCertificates()) == 0 && !fromSecret {
		if t.GetServerCertificate() == "" {
			r.ErrorAt("serverCertificate", "Missing", "is not set beside privateKey")
		}
		if t.GetPrivateKey() == "" {
			r.ErrorAt("privateKey", "Missing", "is not set beside serverCertificate")
		}
	}
	if len(t.GetCredentialNames()) > 2 || len(t.GetTlsCertificates()) > 2 {
		r.Warnf("TooMany", "has more than two certificates; one RSA and one ECDSA certificate is all that a server can use")
	}
	if asksForCertificate(t) {
		if !fromSecret && t.GetCaCertificates() == "" {
			r.ErrorAt("caCertificates", "Missing", "is not set, but mode %s checks client certificates", t.GetMode())
		}
	} else if len(t.GetSubjectAltNames())+len(t.GetVerifyCertificateSpki())+len(t.GetVerifyCertificateHash()) > 0 {
		r.Warnf("NoEffect", "mode %s asks for no client certificate, so what it must be has no effect; use MUTUAL", t.GetMode())
	}
	if t.GetCaCrl() != "" && (fromSecret || !asksForCertificate(t)) {
		r.ErrorAt("caCrl", "Conflict", "is for mode MUTUAL with certificates from files; a Secret brings its own in ca.crl")
	}
	old := t.GetMinProtocolVersion() == networking.ServerTLSSettings_TLSV1_0 || t.GetMinProtocolVersion() == networking.ServerTLSSettings_TLSV1_1
	if old && len(t.GetCipherSuites()) == 0 {
		r.WarnAt("minProtocolVersion", "NoEffect", "is %s, whose ciphers are off by default; set cipherSuites, too", t.GetMinProtocolVersion())
	}
	if lo, hi := t.GetMinProtocolVersion(), t.GetMaxProtocolVersion(); lo != 0 && hi != 0 && lo > hi {
		r.ErrorAt("minProtocolVersion", "Conflict", "is %s, above maxProtocolVersion %s", lo, hi)
	}
}

func checkCertificateFiles(r *Report, m proto.Message) {
	c, _ := m.(*networking.ServerTLSSettings_TLSCertificate)
	if c.GetServerCertificate() == "" || c.GetPrivateKey() == "" {
		r.Errorf("Missing", "want serverCertificate and privateKey")
	}
}

func checkCipher(r *Report, v protoreflect.Value) {
	if !ciphers[strings.TrimSpace(v.String())] {
		r.Warnf("CipherUnknown", "is %s, which Envoy does not know; it is left out", shown(v.String()))
	}
}

// checkSPKI wants what Envoy wants: base64 of a SHA-256.
func checkSPKI(r *Report, v protoreflect.Value) {
	if b, err := base64.StdEncoding.DecodeString(v.String()); err != nil || len(b) != 32 {
		r.Errorf("HashInvalid", "is %s; want the base64 form of a SHA-256 (44 characters)", shown(v.String()))
	}
}

// checkCertificateHash wants what Envoy wants: hex of a SHA-256, with or
// without colons.
func checkCertificateHash(r *Report, v protoreflect.Value) {
	if b, err := hex.DecodeString(strings.ReplaceAll(v.String(), ":", "")); err != nil || len(b) != 32 {
		r.Errorf("HashInvalid", "is %s; want the hexadecimal form of a SHA-256 (64 digits)", shown(v.String()))
	}
}
