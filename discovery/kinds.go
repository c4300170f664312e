package discovery

import (
	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// API groups of Istio's configuration.
const (
	NetworkingGroup = "networking.istio.io"
	SecurityGroup   = "security.istio.io"
	TelemetryGroup  = "telemetry.istio.io"
	ExtensionsGroup = "extensions.istio.io"
)

// Kind is one kind of Istio's configuration API.
type Kind struct {
	Group, Kind string
	// Versions that the CRDs of istio.io/api serve. All share one schema.
	Versions []string
	// New returns an empty spec.
	New func() proto.Message
}

// Kinds returns Istio's kinds, by group, then name.
func Kinds() []Kind {
	net := []string{"v1", "v1beta1", "v1alpha3"}
	sec := []string{"v1", "v1beta1"}
	return []Kind{
		{ExtensionsGroup, "TrafficExtension", []string{"v1alpha1"}, spec[extensions.TrafficExtension]},
		{ExtensionsGroup, "WasmPlugin", []string{"v1alpha1"}, spec[extensions.WasmPlugin]},
		{NetworkingGroup, "DestinationRule", net, spec[networking.DestinationRule]},
		{NetworkingGroup, "EnvoyFilter", []string{"v1alpha3"}, spec[networking.EnvoyFilter]},
		{NetworkingGroup, "Gateway", net, spec[networking.Gateway]},
		{NetworkingGroup, "ProxyConfig", []string{"v1beta1"}, spec[networkingv1beta1.ProxyConfig]},
		{NetworkingGroup, "ServiceEntry", net, spec[networking.ServiceEntry]},
		{NetworkingGroup, "Sidecar", net, spec[networking.Sidecar]},
		{NetworkingGroup, "VirtualService", net, spec[networking.VirtualService]},
		{NetworkingGroup, "WorkloadEntry", net, spec[networking.WorkloadEntry]},
		{NetworkingGroup, "WorkloadGroup", net, spec[networking.WorkloadGroup]},
		{SecurityGroup, "AuthorizationPolicy", sec, spec[security.AuthorizationPolicy]},
		{SecurityGroup, "PeerAuthentication", sec, spec[security.PeerAuthentication]},
		{SecurityGroup, "RequestAuthentication", sec, spec[security.RequestAuthentication]},
		{TelemetryGroup, "Telemetry", []string{"v1", "v1alpha1"}, spec[telemetry.Telemetry]},
	}
}

func spec[T any, P interface {
	*T
	proto.Message
}]() proto.Message {
	return P(new(T))
}
