package config

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
)

// DefaultMeshConfig returns a new MeshConfig with the defaults that the API's
// documentation (istio.io/api/mesh/v1alpha1) gives.
func DefaultMeshConfig() *meshconfig.MeshConfig {
	all := []string{"*"}
	return &meshconfig.MeshConfig{
		EnableTracing:                  true,
		AccessLogFile:                  "",
		AccessLogEncoding:              meshconfig.MeshConfig_TEXT,
		ProxyListenPort:                15001,
		ProxyInboundListenPort:         15006,
		ConnectTimeout:                 durationpb.New(10 * time.Second),
		ProtocolDetectionTimeout:       durationpb.New(0),
		IngressService:                 "istio-ingressgateway",
		IngressControllerMode:          meshconfig.MeshConfig_STRICT,
		IngressClass:                   "istio",
		TrustDomain:                    "cluster.local",
		EnableAutoMtls:                 wrapperspb.Bool(true),
		RootNamespace:                  "istio-system",
		OutboundTrafficPolicy:          &meshconfig.MeshConfig_OutboundTrafficPolicy{Mode: meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY},
		InboundTrafficPolicy:           &meshconfig.MeshConfig_InboundTrafficPolicy{Mode: meshconfig.MeshConfig_InboundTrafficPolicy_PASSTHROUGH},
		LocalityLbSetting:              &networking.LocalityLoadBalancerSetting{Enabled: wrapperspb.Bool(true)},
		DnsRefreshRate:                 durationpb.New(60 * time.Second),
		EnablePrometheusMerge:          wrapperspb.Bool(true),
		DefaultServiceExportTo:         all,
		DefaultVirtualServiceExportTo:  all,
		DefaultDestinationRuleExportTo: all,
		DefaultConfig:                  defaultProxyConfig(),
		DefaultHttpRetryPolicy: &networking.HTTPRetry{
			Attempts: 2,
			RetryOn:  "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
		},
		PathNormalization: &meshconfig.MeshConfig_ProxyPathNormalization{},
	}
}

func defaultProxyConfig() *meshconfig.ProxyConfig {
	return &meshconfig.ProxyConfig{
		ConfigPath:               "./etc/istio/proxy",
		BinaryPath:               "/usr/local/bin/envoy",
		ClusterName:              &meshconfig.ProxyConfig_ServiceCluster{ServiceCluster: "istio-proxy"},
		DrainDuration:            durationpb.New(45 * time.Second),
		TerminationDrainDuration: durationpb.New(5 * time.Second),
		ProxyAdminPort:           15000,
		ControlPlaneAuthPolicy:   meshconfig.AuthenticationPolicy_MUTUAL_TLS,
		DiscoveryAddress:         "istiod.istio-system.svc:15012",
		StatNameLength:           189,
		StatusPort:               15020,
	}
}

// DefaultSettings are the settings of a mesh without the ConfigMap istio.
func DefaultSettings() *Settings {
	return NewSettings(Meta{}, DefaultMeshConfig(), "cluster.local")
}

// NewSettings makes Settings; the hash covers content only.
func NewSettings(meta Meta, mc *meshconfig.MeshConfig, domainSuffix string) *Settings {
	meta.Hash = NewHasher().Str(domainSuffix).Proto(mc).Sum()
	return &Settings{Meta: meta, Mesh: mc, DomainSuffix: domainSuffix}
}
