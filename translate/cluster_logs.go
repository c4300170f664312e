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

// outsideService is one that proxies send to by a host and port of their
// ProxyConfig, rather than by a service of the mesh.
type outsideService struct {
	cluster string
	host    string
	port    uint32
	grpc    bool
	tls     *networking.ClientTLSSettings
	alive   *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive
}

// addOutsideServices adds the clusters of a log service and of an older tracer,
// where logs or spans are sent to them.
func (b *build) addOutsideServices(traits clusterTraits) {
	pc := b.scope.proxyConfig()
	var list []*outsideService
	if host, port, ok := logsTo(b.scope.Settings.Mesh, pc); ok {
		to := pc.GetEnvoyAccessLogService()
		list = append(list, &outsideService{alsCluster, host, port, true, to.GetTlsSettings(), to.GetTcpKeepalive()})
	}
	if name, host, port := olderTarget(pc); name != "" && b.scope.Settings.Mesh.GetEnableTracing() && !b.scope.telemetry.trace.said {
		list = append(list, &outsideService{cluster: name, host: host, port: port, grpc: name == lightstepCluster, tls: pc.GetTracing().GetTlsSettings()})
	}
	for _, to := range list {
		h := config.NewHasher().Str("outside service", to.cluster, b.scope.Class.Traits.ProxyConfig).Hash(b.scope.Settings.Hash)
		traits.addTo(h)
		r := b.resource(h.Sum(), func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
			d := b.outsideService(traits, to)
			return to.cluster, d.out, d.refs, nil, nil
		})
		if r != nil {
			b.clusters = append(b.clusters, r)
		}
	}
}

func (b *build) outsideService(traits clusterTraits, to *outsideService) *clusterDraft {
	d := &clusterDraft{
		settings: b.scope.Settings, traits: traits,
		service: &VisibleService{Service: &config.Service{Hostname: to.host, Resolution: config.ResolveDNS, External: true}},
		port:    config.ServicePort{Number: to.port},
		policy: &networking.TrafficPolicy{
			Tls:            serviceTLS(to.tls, to.host),
			ConnectionPool: &networking.ConnectionPoolSettings{Tcp: &networking.ConnectionPoolSettings_TCPSettings{TcpKeepalive: to.alive}},
		},
		out: &cluster.Cluster{Name: to.cluster, AltStatName: to.cluster + statSuffix},
	}
	d.discover()
	if to.grpc {
		d.httpOptions().UpstreamProtocolOptions = explicitHTTP2()
	}
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
