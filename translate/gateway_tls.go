package translate

import (
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	quic "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// tlsTermination is the TLS that a chain takes off, as a server of a Gateway
// or an ingress listener of a Sidecar describes it.
type tlsTermination struct {
	// spec is nil for a sidecar's own mesh TLS.
	spec *networking.ServerTLSSettings
	// origin, if not zero, identifies what spec is a part of: gateways have
	// thousands, which need not be encoded to tell whether they changed.
	origin config.Hash
	// alpn are the application protocols to offer.
	alpn []string
}

func (c *tlsTermination) addTo(h config.Hasher) {
	h.Bool(c.spec != nil).Hash(c.origin).Str(c.alpn...)
	if c.origin == 0 {
		h.Proto(c.spec)
	}
}

// mesh reports whether clients show certificates of the mesh's authority.
func (c *tlsTermination) mesh() bool {
	return c.spec == nil || c.spec.GetMode() == networking.ServerTLSSettings_ISTIO_MUTUAL
}

func (t *listenerTexts) tlsSocket(c *tlsTermination, overQUIC bool) *core.TransportSocket {
	ctx := t.downstreamTLS(c)
	name, m := "envoy.transport_sockets.tls", proto.Message(ctx)
	if overQUIC {
		name, m = "envoy.transport_sockets.quic", &quic.QuicDownstreamTransport{DownstreamTlsContext: ctx}
	}
	return &core.TransportSocket{Name: name, ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(m)}}
}

func (t *listenerTexts) downstreamTLS(c *tlsTermination) *tls.DownstreamTlsContext {
	if c.mesh() {
		return t.downstreamMeshTLS(c)
	}
	spec := c.spec
	common := &tls.CommonTlsContext{AlpnProtocols: c.alpn, TlsParams: t.env.tlsParams(spec)}
	own, authority := serverSecrets(spec)
	for _, name := range own {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, t.secret(name))
	}
	ctx := &tls.DownstreamTlsContext{
		CommonTlsContext:         common,
		RequireClientCertificate: wrapperspb.Bool(spec.GetMode() == networking.ServerTLSSettings_MUTUAL),
	}
	if asksForCertificate(spec) {
		common.ValidationContextType = &tls.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         clientCheck(spec),
				ValidationContextSdsSecretConfig: t.secret(authority),
			},
		}
	}
	return ctx
}

func asksForCertificate(s *networking.ServerTLSSettings) bool {
	return s.GetMode() == networking.ServerTLSSettings_MUTUAL || s.GetMode() == networking.ServerTLSSettings_OPTIONAL_MUTUAL
}

// clientCheck is what a client's certificate must be, besides signed by the
// authority.
func clientCheck(s *networking.ServerTLSSettings) *tls.CertificateValidationContext {
	check := &tls.CertificateValidationContext{
		VerifyCertificateSpki: s.GetVerifyCertificateSpki(),
		VerifyCertificateHash: s.GetVerifyCertificateHash(),
	}
	for _, name := range s.GetSubjectAltNames() {
		check.MatchSubjectAltNames = append(check.MatchSubjectAltNames, //nolint:staticcheck // matches names of every type
			&matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: name}})
	}
	if s.GetCaCrl() != "" {
		check.Crl = &core.DataSource{Specifier: &core.DataSource_Filename{Filename: s.GetCaCrl()}}
	}
	if s.GetInsecureSkipVerify().GetValue() {
		check.TrustChainVerification = tls.CertificateValidationContext_ACCEPT_UNTRUSTED
	}
	return check
}

// serverSecrets are the SDS names of a server's certificates and of the
// authority that its clients' certificates are checked against. One authority
// serves for several certificates: that of the first.
func serverSecrets(s *networking.ServerTLSSettings) (own []string, authority string) {
	names := s.GetCredentialNames()
	if len(names) == 0 && s.GetCredentialName() != "" {
		names = []string{s.GetCredentialName()}
	}
	for _, n := range names {
		own = append(own, credentialSecret(n))
	}
	if len(own) > 0 {
		authority = own[0] + authoritySuffix
		if n := s.GetCaCertCredentialName(); n != "" {
			authority = authoritySecret(n)
		}
		return own, authority
	}
	for _, c := range s.GetTlsCertificates() {
		own = append(own, fileCertScheme+c.GetServerCertificate()+"~"+c.GetPrivateKey())
	}
	if len(own) == 0 {
		own = []string{fileCertScheme + s.GetServerCertificate() + "~" + s.GetPrivateKey()}
	}
	return own, fileRootScheme + s.GetCaCertificates()
}

// secret asks for an SDS resource on the stream that configured the proxy.
func (t *listenerTexts) secret(name string) *tls.SdsSecretConfig {
	t.refs.secrets = append(t.refs.secrets, name)
	source := adsConfig()
	source.InitialFetchTimeout = nil // Envoy's own bound: other servers of the port shall not wait for ever
	return &tls.SdsSecretConfig{Name: name, SdsConfig: source}
}

// tlsParams are the protocol versions and ciphers: the server's own, over the
// mesh's defaults.
func (e *listenerEnv) tlsParams(s *networking.ServerTLSSettings) *tls.TlsParameters {
	d := e.mesh.GetTlsDefaults()
	p := &tls.TlsParameters{
		EcdhCurves:                known(curves, d.GetEcdhCurves()),
		CipherSuites:              known(ciphers, d.GetCipherSuites()),
		TlsMinimumProtocolVersion: minVersions[d.GetMinProtocolVersion()],
	}
	// The enums agree in their numbers.
	if v := s.GetMinProtocolVersion(); v != networking.ServerTLSSettings_TLS_AUTO {
		p.TlsMinimumProtocolVersion = tls.TlsParameters_TlsProtocol(v)
	}
	if v := s.GetMaxProtocolVersion(); v != networking.ServerTLSSettings_TLS_AUTO {
		p.TlsMaximumProtocolVersion = tls.TlsParameters_TlsProtocol(v)
	}
	if suites := known(ciphers, s.GetCipherSuites()); len(suites) > 0 {
		p.CipherSuites = suites
	}
	if proto.Size(p) == 0 {
		return nil
	}
	return p
}

var minVersions = map[meshconfig.MeshConfig_TLSConfig_TLSProtocol]tls.TlsParameters_TlsProtocol{
	meshconfig.MeshConfig_TLSConfig_TLSV1_2: tls.TlsParameters_TLSv1_2,
	meshconfig.MeshConfig_TLSConfig_TLSV1_3: tls.TlsParameters_TLSv1_3,
}

// ciphers are those that ServerTLSSettings.cipherSuites documents.
var ciphers = map[string]bool{
	"ECDHE-ECDSA-AES128-GCM-SHA256": true, "ECDHE-RSA-AES128-GCM-SHA256": true,
	"ECDHE-ECDSA-AES256-GCM-SHA384": true, "ECDHE-RSA-AES256-GCM-SHA384": true,
	"ECDHE-ECDSA-CHACHA20-POLY1305": true, "ECDHE-RSA-CHACHA20-POLY1305": true,
	"ECDHE-ECDSA-AES128-SHA": true, "ECDHE-RSA-AES128-SHA": true,
	"ECDHE-ECDSA-AES256-SHA": true, "ECDHE-RSA-AES256-SHA": true,
	"AES128-GCM-SHA256": true, "AES256-GCM-SHA384": true,
	"AES128-SHA": true, "AES256-SHA": true, "DES-CBC3-SHA": true,
}

// curves are those that Envoy's TLS library has.
var curves = map[string]bool{"P-256": true, "P-384": true, "P-521": true, "X25519": true, "X25519MLKEM768": true}

// known leaves out duplicates, and names that Envoy would refuse the whole
// listener for; the field tables report them.
func known(names map[string]bool, in []string) []string {
	var out []string
	for _, n := range in {
		n = strings.TrimSpace(n)
		if names[n] && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
