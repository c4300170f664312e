package translate

import (
	"net"
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpfault "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// grpcGenerator is metadata GENERATOR of gRPC libraries that are their own
// proxy.
const grpcGenerator = "grpc"

// grpcClient makes what a gRPC client asks for: by the name that it dials a
// Listener, then the route table that it names, the clusters that this leads
// to, and their endpoints. The library takes far less than an Envoy, and
// refuses what it does not know.
func (b *build) grpcClient() {
	env := b.newRouteEnv(true)
	done := map[string]bool{}
	for _, e := range b.scope.Egress {
		for _, v := range e.Services {
			for _, p := range v.InReach {
				if carriesHTTP(p.Protocol) && !v.isForwarded() {
					b.grpcListeners(env, v, p, done)
					b.grpcTable(e, v, p, done)
				}
			}
			b.grpcClusters(v, done)
		}
		for _, v := range e.Destinations {
			b.grpcClusters(v, done)
		}
	}
}

// once reports whether a name comes for the first time.
func once(done map[string]bool, name string) bool {
	if done[name] {
		return false
	}
	done[name] = true
	return true
}

// grpcListeners are one for each form of the host that a client may dial.
func (b *build) grpcListeners(env *routeEnv, v *VisibleService, p config.ServicePort, done map[string]bool) {
	table := OutboundCluster(p.Number, "", v.Hostname)
	for _, host := range append([]string{v.Hostname}, shortNames(v.Hostname, env.dnsDomain)...) {
		name := net.JoinHostPort(host, strconv.FormatUint(uint64(p.Number), 10))
		if !once(done, "listener "+name) {
			continue
		}
		key := config.NewHasher().Str("grpc listener", name, table).Hash(v.Meta.Hash).Sum()
		if r := b.resource(key, func() (string, proto.Message, Refs, []*config.Meta, []config.Problem) {
			return name, grpcListener(name, table), Refs{Routes: []string{table}}, []*config.Meta{&v.Meta}, nil
		}); r != nil {
			b.listeners = append(b.listeners, r)
		}
	}
}

func grpcListener(name, table string) *listener.Listener {
	return &listener.Listener{Name: name, ApiListener: &listener.ApiListener{
		ApiListener: packed(&hcm.HttpConnectionManager{
			RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{ConfigSource: adsConfig(), RouteConfigName: table}},
			HttpFilters:    append(httpFilter(faultFilter, &httpfault.HTTPFault{}), grpcRouter()...),
		}),
	}}
}

func grpcRouter() []*hcm.HttpFilter { return httpFilter("envoy.filters.http.router", &router.Router{}) }

func (b *build) grpcTable(e *Egress, v *VisibleService, p config.ServicePort, done map[string]bool) {
	t := routeTable{Name: OutboundCluster(p.Number, "", v.Hostname), Port: p.Number, Egress: e, Only: v}
	if !once(done, "table "+t.Name) {
		return
	}
	if r := b.outboundTable(&t); r != nil {
		b.routes = append(b.routes, r)
	}
}

// grpcClusters are a service's, one for each port and subset.
func (b *build) grpcClusters(v *VisibleService, done map[string]bool) {
	if v.ExternalName != "" || v.isForwarded() {
		return
	}
	// Without certificates a client refuses what would need them by itself.
	traits := clusterTraits{ipv6Only: b.scope.Class.Traits.IPv6Only, certificates: true}
	for _, p := range v.InReach {
		if p.Protocol == config.ProtocolUDP {
			continue
		}
		subsets := []*networking.Subset{nil}
		if v.Rule != nil {
			subsets = append(subsets, v.Rule.Spec.GetSubsets()...)
		}
		for _, subset := range subsets {
			d := newClusterDraft(b.scope.Settings, traits, v, p, subset, false)
			if once(done, "cluster "+d.out.Name) {
				b.grpcCluster(d)
			}
		}
	}
}

func (b *build) grpcCluster(d *clusterDraft) {
	if !d.reduce() {
		return
	}
	r, err := NewResource(d.out.Name, d.out, Refs{}, d.sources()...)
	if err != nil {
		b.problems = append(b.problems, unencodable(d.out.Name, err, d.sources()))
		return
	}
	b.clusters = append(b.clusters, r)
	if d.isEDS() {
		b.endpoints = append(b.endpoints, d.endpointSpec())
	}
}

// reduce leaves of a cluster what gRPC knows (gRFCs A27, A32, A37, A42, A48,
// A50). It reports whether something is left.
func (d *clusterDraft) reduce() bool {
	full := d.out
	d.out = &cluster.Cluster{Name: full.Name, ClusterDiscoveryType: full.ClusterDiscoveryType, OutlierDetection: full.OutlierDetection}
	switch full.GetType() {
	case cluster.Cluster_EDS:
		d.out.EdsClusterConfig = &cluster.Cluster_EdsClusterConfig{ServiceName: full.Name, EdsConfig: adsConfig()}
	case cluster.Cluster_STRICT_DNS, cluster.Cluster_LOGICAL_DNS:
		d.setType(cluster.Cluster_LOGICAL_DNS)
		d.out.LoadAssignment = firstOf(full.LoadAssignment)
	default:
		return false
	}
	switch lb := d.policy.GetLoadBalancer(); {
	case lb.GetConsistentHash() != nil:
		d.out.LbPolicy = cluster.Cluster_RING_HASH
		if rings := full.GetRingHashLbConfig(); rings != nil {
			d.out.LbConfig = &cluster.Cluster_RingHashLbConfig_{RingHashLbConfig: rings}
		}
	case lb.GetSimple() == networking.LoadBalancerSettings_LEAST_REQUEST:
		d.out.LbPolicy = cluster.Cluster_LEAST_REQUEST
	}
	if most := d.policy.GetConnectionPool().GetHttp().GetHttp2MaxRequests(); most > 0 {
		d.out.CircuitBreakers = &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(uint32(most))}}}
	}
	if t := d.policy.GetTls(); t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL {
		d.out.TransportSocket = tlsTransport(&tls.UpstreamTlsContext{CommonTlsContext: grpcTLS(d.peerNames(t))})
	}
	return true
}

// firstOf is an assignment of its first endpoint alone, all that a name's
// cluster may have.
func firstOf(a *endpoint.ClusterLoadAssignment) *endpoint.ClusterLoadAssignment {
	out := &endpoint.ClusterLoadAssignment{ClusterName: a.GetClusterName()}
	for _, l := range a.GetEndpoints() {
		if len(l.LbEndpoints) > 0 {
			out.Endpoints = []*endpoint.LocalityLbEndpoints{{LbEndpoints: l.LbEndpoints[:1]}}
			break
		}
	}
	return out
}

// Names by which an agent's bootstrap for gRPC knows what certificates come
// of, and which of them these are.
const (
	grpcCertificates = "default"
	grpcAuthorities  = "ROOTCA"
)

// grpcTLS is mesh TLS with the certificates that the client's bootstrap names.
// Servers' certificates must carry one of the names, if there are any.
func grpcTLS(names []string) *tls.CommonTlsContext {
	check := &tls.CertificateValidationContext{CaCertificateProviderInstance: &tls.CertificateProviderPluginInstance{
		InstanceName: grpcCertificates, CertificateName: grpcAuthorities,
	}}
	for _, n := range names {
		check.MatchSubjectAltNames = append(check.MatchSubjectAltNames, //nolint:staticcheck // gRPC reads no other
			&matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: n}})
	}
	return &tls.CommonTlsContext{
		TlsCertificateProviderInstance: &tls.CertificateProviderPluginInstance{
			InstanceName: grpcCertificates, CertificateName: workloadCertificate,
		},
		ValidationContextType: &tls.CommonTlsContext_ValidationContext{ValidationContext: check},
	}
}
