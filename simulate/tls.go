package simulate

import (
	"fmt"
	"slices"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	quic "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	raw "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// meshSecret is the name under which the agent serves the workload's own
// certificate.
const meshSecret = "default"

// terminate takes the TLS off as the chain says. It returns false where the
// handshake fails.
func (e *exchange) terminate(fc *listener.FilterChain) bool {
	t := e.conn.TLS
	if fc.GetTransportSocket() == nil {
		e.hop.Downstream = &Security{Mode: Plaintext}
		if t != nil {
			e.hop.Downstream = &Security{Mode: TLS, SNI: t.SNI, Passthrough: true}
		}
		return true
	}
	m, err := e.config.unpack(fc.GetTransportSocket().GetTypedConfig())
	if q, ok := m.(*quic.QuicDownstreamTransport); ok {
		m = q.GetDownstreamTlsContext()
	}
	if _, ok := m.(*raw.RawBuffer); ok && err == nil {
		e.hop.Downstream = &Security{Mode: Plaintext}
		return true
	}
	c, ok := m.(*tls.DownstreamTlsContext)
	if err != nil || !ok {
		e.hop.unknown("transport socket " + fc.GetTransportSocket().GetName())
		e.hop.Downstream = &Security{Mode: Plaintext}
		return true
	}
	if t == nil {
		e.close("the chain wants TLS and the client speaks plaintext: the connection is closed")
		return false
	}
	if name := e.config.lacking(c.GetCommonTlsContext()); name != "" {
		e.close(noSecret(name))
		return false
	}
	check := e.checkOf(c)
	required := check.required
	if usesMeshCertificate(c.GetCommonTlsContext()) != t.Mesh {
		// Certificates of other authorities are not known here.
		if t.Mesh {
			e.close("the server's certificate is not the mesh's: the client refuses it")
			return false
		}
		if required {
			e.close("the chain requires a client certificate of the mesh: the handshake fails")
			return false
		}
	}
	if required && t.Identity == "" && t.Mesh {
		e.close("the chain requires a client certificate and the client has none: the handshake fails")
		return false
	}
	e.hop.Downstream = &Security{Mode: TLS, SNI: t.SNI}
	if t.Mesh {
		if check.asks && t.Identity != "" {
			e.hop.Downstream.Mode, e.hop.Downstream.Identity = MTLS, t.Identity
		}
		return true
	}
	return e.clientShows(check, t.Certificate)
}

// clientShows decides by the certificate of a client that is not of the mesh.
func (e *exchange) clientShows(check *clientCheck, cert *Certificate) bool {
	if why := check.refuses(cert); why != "" {
		e.close(why + ": the handshake fails")
		return false
	}
	if check.asks && cert != nil {
		d := e.hop.Downstream
		d.Mode, d.principals, d.certificate = MTLS, cert.principals(), cert
		d.Identity = d.principals[0]
	}
	return true
}

func usesMeshCertificate(c *tls.CommonTlsContext) bool {
	for _, s := range c.GetTlsCertificateSdsSecretConfigs() {
		if s.GetName() == meshSecret {
			return true
		}
	}
	return false
}

func noSecret(name string) string {
	return "the secret " + name + " does not exist: the handshake fails"
}

func (e *exchange) close(why string) {
	e.hop.Reply = &Reply{Reason: why}
}

// security is how the Envoy's connection to an endpoint is secured, and the
// application protocols that it announces.
func (c *Config) security(cl *cluster.Cluster, e *endpoint.LbEndpoint) (s *Security, alpn []string, unknown string) {
	socket := cl.GetTransportSocket()
	if len(cl.GetTransportSocketMatches()) > 0 {
		labels := e.GetMetadata().GetFilterMetadata()["envoy.transport_socket_match"]
		for _, m := range cl.GetTransportSocketMatches() {
			if hasAll(labels, m.GetMatch()) {
				socket = m.GetTransportSocket()
				break
			}
		}
	}
	return c.upstream(socket)
}

func (c *Config) upstream(socket *core.TransportSocket) (s *Security, alpn []string, unknown string) {
	if socket == nil {
		return &Security{Mode: Plaintext}, nil, ""
	}
	m, err := c.unpack(socket.GetTypedConfig())
	switch t := m.(type) {
	case *raw.RawBuffer:
		return &Security{Mode: Plaintext}, nil, ""
	case *tls.UpstreamTlsContext:
		common := t.GetCommonTlsContext()
		s := &Security{Mode: TLS, SNI: t.GetSni(), lacks: c.lacking(common)}
		if len(common.GetTlsCertificateSdsSecretConfigs()) > 0 || len(common.GetTlsCertificates()) > 0 {
			s.Mode = MTLS
		}
		if usesMeshCertificate(common) {
			s.Identity = meshSecret // filled in by whoever knows the proxy
		}
		check := common.GetValidationContext()
		if common.GetCombinedValidationContext() != nil {
			check = common.GetCombinedValidationContext().GetDefaultValidationContext()
		}
		names := check.GetMatchTypedSubjectAltNames()
		for _, san := range names {
			s.Verifies = append(s.Verifies, describeString(san.GetMatcher()))
		}
		if len(names) > 0 {
			s.takes = func(identity string) bool {
				return slices.ContainsFunc(names, func(san *tls.SubjectAltNameMatcher) bool {
					match, known := matchString(san.GetMatcher(), identity)
					return match || !known
				})
			}
		}
		return s, common.GetAlpnProtocols(), ""
	}
	return &Security{Mode: Plaintext}, nil, fmt.Sprintf("transport socket %s (%v)", socket.GetName(), err)
}

// hasAll reports whether metadata holds every field of want.
func hasAll(have, want *structpb.Struct) bool {
	for k, v := range want.GetFields() {
		got, ok := have.GetFields()[k]
		if !ok || !proto.Equal(got, v) {
			return false
		}
	}
	return true
}
