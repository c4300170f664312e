package translate

import (
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// downstreamMeshTLS takes off TLS of which both ends have certificates of the
// mesh's authority.
func (t *listenerTexts) downstreamMeshTLS(c *tlsTermination) *tls.DownstreamTlsContext {
	check := clientCheck(c.spec)
	if c.spec == nil {
		check.MatchTypedSubjectAltNames = memberNames(t.env.mesh)
	}
	return &tls.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(true),
		CommonTlsContext: &tls.CommonTlsContext{
			AlpnProtocols:                  c.alpn,
			TlsParams:                      meshTLSParams(t.env.mesh),
			TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{agentSecret(workloadCertificate)},
			ValidationContextType: &tls.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext: check, ValidationContextSdsSecretConfig: agentSecret(meshAuthorities),
				},
			},
		},
	}
}

// memberNames match the identities of the mesh's trust domains: an authority
// that serves others as well makes nobody a member.
func memberNames(mesh *meshconfig.MeshConfig) []*tls.SubjectAltNameMatcher {
	var out []*tls.SubjectAltNameMatcher
	for _, d := range trustDomains(mesh) {
		out = append(out, &tls.SubjectAltNameMatcher{
			SanType: tls.SubjectAltNameMatcher_URI,
			Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: spiffeScheme + d + "/"}},
		})
	}
	return out
}
