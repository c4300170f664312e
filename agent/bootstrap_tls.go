package agent

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// discoveryTLS is mutual TLS to the control plane, or nil for plaintext. Envoy
// waits for the agent's secrets before it connects.
func (b *Bootstrap) discoveryTLS() (*core.TransportSocket, error) {
	if b.DiscoveryName == "" {
		return nil, nil
	}
	c, err := anypb.New(&tls.UpstreamTlsContext{
		Sni: b.DiscoveryName,
		CommonTlsContext: &tls.CommonTlsContext{
			AlpnProtocols:                  []string{"h2"},
			TlsParams:                      &tls.TlsParameters{TlsMinimumProtocolVersion: tls.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tls.TlsParameters_TLSv1_3},
			TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{fromAgent(CertificateSecret)},
			ValidationContextType: &tls.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
					ValidationContextSdsSecretConfig: fromAgent(RootsSecret),
					DefaultValidationContext: &tls.CertificateValidationContext{
						MatchTypedSubjectAltNames: []*tls.SubjectAltNameMatcher{{
							SanType: tls.SubjectAltNameMatcher_DNS,
							Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: b.DiscoveryName}},
						}},
					},
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	return &core.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: c},
	}, nil
}

func fromAgent(secret string) *tls.SdsSecretConfig {
	return &tls.SdsSecretConfig{Name: secret, SdsConfig: &core.ConfigSource{
		ResourceApiVersion:  core.ApiVersion_V3,
		InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_GRPC, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: sdsCluster},
			}}},
		}},
	}}
}
