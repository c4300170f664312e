package config

import (
	extensions "istio.io/api/extensions/v1alpha1"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

//revive:disable:exported One comment speaks for the whole block.

// The configuration objects, by kind.
type (
	VirtualService        = Object[*networking.VirtualService]
	DestinationRule       = Object[*networking.DestinationRule]
	Gateway               = Object[*networking.Gateway]
	ServiceEntry          = Object[*networking.ServiceEntry]
	SidecarScope          = Object[*networking.Sidecar]
	WorkloadEntry         = Object[*networking.WorkloadEntry]
	WorkloadGroup         = Object[*networking.WorkloadGroup]
	EnvoyFilter           = Object[*networking.EnvoyFilter]
	ProxyConfig           = Object[*networkingv1beta1.ProxyConfig]
	PeerAuthentication    = Object[*security.PeerAuthentication]
	RequestAuthentication = Object[*security.RequestAuthentication]
	AuthorizationPolicy   = Object[*security.AuthorizationPolicy]
	Telemetry             = Object[*telemetry.Telemetry]
	TrafficExtension      = Object[*extensions.TrafficExtension]
	WasmPlugin            = Object[*extensions.WasmPlugin]
)

//revive:enable:exported

// Namespace is a Kubernetes namespace; only its labels matter.
type Namespace struct{ Meta }

// Secret is a Kubernetes Secret that a gateway or an upstream TLS context may
// name. Its data never appears in logs or debug output: String is redacted
// and the JSON form has no data.
type Secret struct {
	Meta
	Type string
	Data map[string][]byte `json:"-"`
}

// String names the secret only.
func (s *Secret) String() string { return s.Key.String() }

// GoString names the secret only.
func (s *Secret) GoString() string { return s.Key.String() }

// ConfigMap is a Kubernetes ConfigMap that configuration may name (CA
// certificates and CRLs).
type ConfigMap struct {
	Meta
	Data map[string]string
}

// ReferenceGrant is one of the Kubernetes Gateway API: what of its namespace
// may be named from others. Spec must not be modified.
type ReferenceGrant struct {
	Meta
	Spec gatewayapi.ReferenceGrantSpec
}

// Settings is the mesh-wide configuration, defaults applied.
type Settings struct {
	// Meta is that of the ConfigMap it came from; its Key is empty for the
	// defaults.
	Meta
	Mesh *meshconfig.MeshConfig
	// DomainSuffix is the cluster's DNS domain, cluster.local.
	DomainSuffix string
	// Environment holds the variables that Mesh names; nil where nobody reads
	// them.
	Environment *Environment `json:"-"`
}

// Mesh is one published state of everything that translation can read.
// A Mesh and all that it points to are immutable.
type Mesh struct {
	// Sequence counts publications of this process, from 1. It is no content:
	// nothing sent to a proxy depends on it.
	Sequence uint64
	Settings *Settings

	Services   Index[*Service] // by namespace and hostname
	Endpoints  Index[*Endpoints]
	Workloads  Index[*Workload]
	Namespaces Index[*Namespace] // of namespace ""
	Secrets    Index[*Secret]
	ConfigMaps Index[*ConfigMap]
	// ReferenceGrants are those of the Secrets' namespaces.
	ReferenceGrants Index[*ReferenceGrant]

	VirtualServices        Index[*VirtualService]
	DestinationRules       Index[*DestinationRule]
	Gateways               Index[*Gateway]
	ServiceEntries         Index[*ServiceEntry]
	Sidecars               Index[*SidecarScope]
	WorkloadEntries        Index[*WorkloadEntry]
	WorkloadGroups         Index[*WorkloadGroup]
	EnvoyFilters           Index[*EnvoyFilter]
	ProxyConfigs           Index[*ProxyConfig]
	PeerAuthentications    Index[*PeerAuthentication]
	RequestAuthentications Index[*RequestAuthentication]
	AuthorizationPolicies  Index[*AuthorizationPolicy]
	Telemetries            Index[*Telemetry]
	TrafficExtensions      Index[*TrafficExtension]
	WasmPlugins            Index[*WasmPlugin]

	// OldestKubelet is the minor version of the oldest kubelet (29 for
	// v1.29.3); 0 if no node says.
	OldestKubelet int

	// KeySets are the keys that token issuers publish, as far as they were
	// fetched; nil for none. See package discovery/jwks.
	KeySets *KeySets

	// Problems are what the sources found: malformed documents, unknown
	// kinds. Translation's own problems are not among them.
	Problems []Problem
}

// RootNamespace is where mesh-wide configuration lives.
func (m *Mesh) RootNamespace() string { return m.Settings.Mesh.GetRootNamespace() }

// OnlyEndpointsDiffer reports whether two Meshes of one Store differ in
// nothing but workloads and endpoints that proxies are sent beside their
// scopes, so that no scope needs regathering. Endpoints that a proxy resolves
// itself are part of its clusters, and of its scope; so is what clients must
// expect of endpoints (Endpoints.SamePeers).
func (m *Mesh) OnlyEndpointsDiffer(o *Mesh) bool {
	return m.Settings == o.Settings && m.KeySets == o.KeySets &&
		m.Services.Same(o.Services) &&
		m.Namespaces.Same(o.Namespaces) &&
		m.Secrets.Same(o.Secrets) &&
		m.ConfigMaps.Same(o.ConfigMaps) &&
		m.ReferenceGrants.Same(o.ReferenceGrants) &&
		m.VirtualServices.Same(o.VirtualServices) &&
		m.DestinationRules.Same(o.DestinationRules) &&
		m.Gateways.Same(o.Gateways) &&
		m.ServiceEntries.Same(o.ServiceEntries) &&
		m.Sidecars.Same(o.Sidecars) &&
		m.WorkloadGroups.Same(o.WorkloadGroups) &&
		m.EnvoyFilters.Same(o.EnvoyFilters) &&
		m.ProxyConfigs.Same(o.ProxyConfigs) &&
		m.PeerAuthentications.Same(o.PeerAuthentications) &&
		m.RequestAuthentications.Same(o.RequestAuthentications) &&
		m.AuthorizationPolicies.Same(o.AuthorizationPolicies) &&
		m.Telemetries.Same(o.Telemetries) &&
		m.TrafficExtensions.Same(o.TrafficExtensions) &&
		m.WasmPlugins.Same(o.WasmPlugins) &&
		m.gatheredEndpointsSame(o)
}

func (m *Mesh) gatheredEndpointsSame(o *Mesh) bool {
	for before, after := range m.Endpoints.Changed(o.Endpoints) {
		if !after.SamePeers(before) {
			return false
		}
		e := after
		if e == nil {
			e = before
		}
		s, ok := m.Services.Get(e.ID.Namespace, e.ID.Hostname)
		if ok && (s.Resolution == ResolveDNS || s.Resolution == ResolveDNSRoundRobin) {
			return false
		}
	}
	return true
}
