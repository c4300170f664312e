package translate

import (
	"net/netip"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	networking "istio.io/api/networking/v1alpha3"
)

const tlsSocket = "envoy.transport_sockets.tls"

// tls originates TLS: as the policy asks for it, or, where it says nothing,
// mesh TLS to those endpoints that take it.
func (d *clusterDraft) tls() {
	t := d.policy.GetTls()
	switch {
	case t == nil:
		d.autoMeshTLS()
	case t.GetMode() == networking.ClientTLSSettings_SIMPLE, t.GetMode() == networking.ClientTLSSettings_MUTUAL:
		if !d.withheld(t) {
			d.out.TransportSocket = tlsTransport(d.originate(t))
		}
	case t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL && d.traits.certificates:
		d.out.TransportSocket = tlsTransport(d.meshTLS(t))
	case t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL:
		d.withoutCertificates()
	}
}

func tlsTransport(c *tls.UpstreamTlsContext) *core.TransportSocket {
	return &core.TransportSocket{
		Name:       tlsSocket,
		ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: packed(c)},
	}
}

// withheld reports whether a sidecar does not get the rule's credential: it is
// for gateways, unless the rule selects the workloads that may read it.
// Certificate authorities from ConfigMaps are public.
func (d *clusterDraft) withheld(t *networking.ClientTLSSettings) bool {
	return !d.traits.gateway && t.GetCredentialName() != "" &&
		!strings.HasPrefix(t.GetCredentialName(), configMapScheme) &&
		(d.service.Rule == nil || d.service.Rule.Spec.GetWorkloadSelector() == nil)
}

// originate is TLS to a server outside the mesh's own certificates.
func (d *clusterDraft) originate(t *networking.ClientTLSSettings) *tls.UpstreamTlsContext {
	c := &tls.UpstreamTlsContext{CommonTlsContext: d.tlsDefaults(), Sni: t.GetSni()}
	d.verifyAsAsked(t)
	names := t.GetSubjectAltNames()
	if len(names) == 0 && !d.service.Kubernetes {
		names = d.service.SubjectAltNames
	}
	own, authority := credentialSecrets(t)
	if t.GetMode() == networking.ClientTLSSettings_MUTUAL {
		c.CommonTlsContext.TlsCertificateSdsSecretConfigs = []*tls.SdsSecretConfig{d.secret(own)}
	}
	if !t.GetInsecureSkipVerify().GetValue() {
		check := &tls.CertificateValidationContext{MatchTypedSubjectAltNames: altNames(names)}
		if t.GetCaCrl() != "" {
			check.Crl = &core.DataSource{Specifier: &core.DataSource_Filename{Filename: t.GetCaCrl()}}
		}
		c.CommonTlsContext.ValidationContextType = d.validation(check, d.secret(authority))
	}
	if d.http2() != nil {
		c.CommonTlsContext.AlpnProtocols = []string{"h2"}
	}
	return c
}

func (d *clusterDraft) tlsDefaults() *tls.CommonTlsContext {
	p := &tls.TlsParameters{
		TlsMinimumProtocolVersion: tls.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tls.TlsParameters_TLSv1_3,
	}
	defaults := d.settings.Mesh.GetTlsDefaults()
	p.EcdhCurves = defaults.GetEcdhCurves()
	p.CipherSuites = defaults.GetCipherSuites()
	return &tls.CommonTlsContext{TlsParams: p}
}

func (d *clusterDraft) validation(check *tls.CertificateValidationContext, authority *tls.SdsSecretConfig) *tls.CommonTlsContext_CombinedValidationContext {
	return &tls.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: check, ValidationContextSdsSecretConfig: authority,
		},
	}
}

// verifyAsAsked lets the host that a request asks for be the SNI, and the name
// that the server's certificate must carry, where the rule names neither.
func (d *clusterDraft) verifyAsAsked(t *networking.ClientTLSSettings) {
	names := t.GetSubjectAltNames()
	if len(names) == 0 && !d.service.Kubernetes && !d.service.isForwarded() {
		names = d.service.SubjectAltNames
	}
	sni := t.GetSni() == ""
	san := !t.GetInsecureSkipVerify().GetValue() && (d.service.isForwarded() || sni && len(names) == 0)
	if d.service.isForwarded() && !(sni && san) {
		d.allowInsecure()
	}
	if sni || san {
		d.httpOptions().UpstreamHttpProtocolOptions = &core.UpstreamHttpProtocolOptions{AutoSni: sni, AutoSanValidation: san}
	}
}

// secret asks for an SDS resource on the stream that configured the proxy.
func (d *clusterDraft) secret(name string) *tls.SdsSecretConfig {
	d.refs.Secrets = appendSorted(d.refs.Secrets, name)
	return &tls.SdsSecretConfig{Name: name, SdsConfig: adsConfig()}
}

// altNames matches a certificate's subject alternative names exactly, each of
// the kind that its form shows.
func altNames(names []string) []*tls.SubjectAltNameMatcher {
	var out []*tls.SubjectAltNameMatcher
	for _, n := range names {
		out = append(out, &tls.SubjectAltNameMatcher{
			SanType: altNameType(n),
			Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: n}},
		})
	}
	return out
}

func altNameType(name string) tls.SubjectAltNameMatcher_SanType {
	if strings.Contains(name, "://") {
		return tls.SubjectAltNameMatcher_URI
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return tls.SubjectAltNameMatcher_IP_ADDRESS
	}
	if strings.Contains(name, "@") {
		return tls.SubjectAltNameMatcher_EMAIL
	}
	return tls.SubjectAltNameMatcher_DNS
}
