package translate

import (
	"google.golang.org/protobuf/encoding/protojson"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// listenerEnv is what every listener of a scope may read besides its draft.
type listenerEnv struct {
	mesh *meshconfig.MeshConfig
	// environment holds the variables that mesh names.
	environment *config.Environment

	proxy  *meshconfig.ProxyConfig
	traits Traits
	side   Side
	// policies are what requests and connections must pass.
	policies *policies
	// extensions are the user's own filters, in order.
	extensions []*extension
	// telemetry is what is told of the traffic, and to whom.
	telemetry *telemetryRules
	// key covers all of the above that listeners read.
	key config.Hash
}

func newListenerEnv(s *Scope) listenerEnv {
	t := s.Class.Traits
	h := config.NewHasher().Hash(s.Settings.Hash).Uint(uint64(s.Class.Side))
	h.Str(string(t.Interception), t.ProxyConfig, t.ServiceCluster).Bool(t.IPv6Only).Bool(t.DualStack).Bool(t.IstioFilters).Bool(t.DNSCapture).Bool(t.Certificates).Bool(t.SetsState).Bool(t.Telemetry).Bool(t.FollowsParent).Bool(t.PlainTags).Bool(t.Modules).Bool(t.Unproven)
	s.policies.addTo(h)
	s.telemetry.addTo(h)
	addExtensions(h, s.extensions)
	return listenerEnv{
		policies: &s.policies, telemetry: &s.telemetry, extensions: s.extensions,
		mesh: s.Settings.Mesh, environment: s.Settings.Environment, proxy: s.proxyConfig(), traits: t, side: s.Class.Side, key: h.Sum(),
	}
}

// proxyConfig is the proxy's own ProxyConfig where its metadata carries one
// (it then holds the mesh's defaults already), or the mesh's default.
func (s *Scope) proxyConfig() *meshconfig.ProxyConfig {
	return proxyConfigOf(s.Settings, s.Class.Traits.ProxyConfig)
}

func proxyConfigOf(s *config.Settings, own string) *meshconfig.ProxyConfig {
	if own == "" {
		return s.Mesh.GetDefaultConfig()
	}
	pc := &meshconfig.ProxyConfig{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(own), pc); err != nil {
		return s.Mesh.GetDefaultConfig()
	}
	return pc
}

// wildcards are the addresses that mean every address, primary first.
func (e *listenerEnv) wildcards() []string { return e.byFamily("0.0.0.0", "::") }

// loopbacks are the addresses of the machine itself, primary first.
func (e *listenerEnv) loopbacks() []string { return e.byFamily("127.0.0.1", "::1") }

func (e *listenerEnv) byFamily(v4, v6 string) []string {
	switch {
	case e.traits.IPv6Only:
		return []string{v6}
	case e.traits.DualStack:
		return []string{v4, v6}
	default:
		return []string{v4}
	}
}

// bindPort is the port that is really bound for a configured one.
func (e *listenerEnv) bindPort(port uint32, real bool) uint32 {
	if real && port < 1024 {
		return port + e.traits.Local.PortBase
	}
	return port
}

// canBind reports whether the proxy may bind a port; 0 stands for a Unix
// domain socket.
func (e *listenerEnv) canBind(port uint32, real bool) bool {
	return !real || !e.traits.Unprivileged || port == 0 || e.bindPort(port, real) >= 1024
}

// usablePort is a port of the mesh's settings, or the default for one that no
// socket can have.
func usablePort(n int32, otherwise uint32) uint32 {
	if n < 1 || n > 65535 {
		return otherwise
	}
	return uint32(n)
}

func (e *listenerEnv) outboundPort() uint32 { return usablePort(e.mesh.GetProxyListenPort(), 15001) }

func (e *listenerEnv) inboundPort() uint32 {
	return usablePort(e.mesh.GetProxyInboundListenPort(), 15006)
}
