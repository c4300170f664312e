package translate

import (
	"net"
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// alsCluster is the cluster of the log service that
// MeshConfig.enableEnvoyAccessLogService sends to. Bootstraps that Istio's agent
// makes have one of that name; there ours changes nothing, since Envoy keeps
// static clusters as they are.
const alsCluster = "envoy_accesslog_service"

// logsTo is the address of the log service that a proxy sends to, if it does: a
// listener that names a cluster which nobody gives would be refused.
func logsTo(mesh *meshconfig.MeshConfig, proxy *meshconfig.ProxyConfig) (host string, port uint32, ok bool) {
	if !mesh.GetEnableEnvoyAccessLogService() {
		return "", 0, false
	}
	return hostPort(proxy.GetEnvoyAccessLogService().GetAddress())
}

func hostPort(address string) (host string, port uint32, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint32(n), err == nil && n > 0
}

// addLogService adds the log service's cluster where logs are sent to it.
func (b *build) addLogService(traits clusterTraits) {
	pc := b.scope.proxyConfig()
	host, port, ok := logsTo(b.scope.Settings.Mesh, pc)
	if !ok {
		return
	}
	h := config.NewHasher().Str("log service", b.scope.Class.Traits.ProxyConfig).Hash(b.scope.Settings.Hash)
	traits.addTo(h)
	r := b.resource(h.Sum(), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
		d := b.logService(traits, host, port, pc.GetEnvoyAccessLogService())
		return alsCluster, d.out, d.refs, nil, nil
	})
	if r != nil {
		b.clusters = append(b.clusters, r)
	}
}

func (b *build) logService(traits clusterTraits, host string, port uint32, to *meshconfig.RemoteService) *clusterDraft {
	d := &clusterDraft{
		settings: b.scope.Settings, traits: traits,
		service: &VisibleService{Service: &config.Service{Hostname: host, Resolution: config.ResolveDNS, External: true}},
		port:    config.ServicePort{Number: port},
		policy: &networking.TrafficPolicy{
			Tls:            serviceTLS(to.GetTlsSettings(), host),
			ConnectionPool: &networking.ConnectionPoolSettings{Tcp: &networking.ConnectionPoolSettings_TCPSettings{TcpKeepalive: to.GetTcpKeepalive()}},
		},
		out: &cluster.Cluster{Name: alsCluster, AltStatName: alsCluster + statSuffix},
	}
	d.discover()
	d.httpOptions().UpstreamProtocolOptions = explicitHTTP2()
	d.connectionPool()
	d.tls()
	d.finish()
	return d
}

// serviceTLS is TLS to a host that no request names: what the certificate must
// say is the host's name unless the settings say otherwise.
func serviceTLS(t *networking.ClientTLSSettings, host string) *networking.ClientTLSSettings {
	if t == nil {
		return &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_DISABLE}
	}
	if net.ParseIP(host) != nil || t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
		return t
	}
	out, _ := proto.Clone(t).(*networking.ClientTLSSettings)
	if out.GetSni() == "" {
		out.Sni = host
	}
	if len(out.GetSubjectAltNames()) == 0 {
		out.SubjectAltNames = []string{host}
	}
	return out
}
