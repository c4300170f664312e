package agent

import (
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metrics "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	cares "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// The ports in a pod that tools and probes rely on.
const (
	AdminPort  = 15000 // Envoy's admin interface, on loopback
	StatusPort = 15020 // the agent: merged metrics, probes of the application
	HealthPort = 15021 // /healthz/ready
	DNSPort    = 15053 // the agent's DNS, on loopback
	StatsPort  = 15090 // /stats/prometheus
)

// The static clusters. Translation names sds-grpc.
const (
	xdsCluster   = "xds-grpc"
	sdsCluster   = "sds-grpc"
	adminCluster = "prometheus_stats"
	agentCluster = "agent"
)

// The secrets that the agent beside an Envoy serves.
const (
	CertificateSecret = "default" // the workload's certificate and key
	RootsSecret       = "ROOTCA"  // the certificates of the authorities to trust
)

// Address is a Unix socket's path, or a TCP host and port.
type Address struct {
	Path string
	Host string // an IP address, or for the control plane a DNS name
	Port uint32
}

// Bootstrap is what one Envoy is started with.
type Bootstrap struct {
	Node Node
	// Discovery is where ADS is spoken, without TLS unless DiscoveryName is set.
	Discovery Address
	// DiscoveryName is the DNS name that the control plane's certificate must
	// carry. ADS is then spoken over mutual TLS with the secrets of the agent.
	DiscoveryName string
	// Secrets is the agent's SDS socket; without a path there is none.
	Secrets Address
	// Agent answers /healthz/ready and knows more than Envoy's admin interface,
	// which answers if Agent has no host.
	Agent Address
	// Stats are the statistics that Envoy keeps; nil keeps all.
	Stats *metrics.StatsMatcher
	// StateOfTheWorld asks for the older variant of ADS instead of delta.
	StateOfTheWorld bool
	// DNS is the server that Envoy asks for names, over UDP; without a host it
	// is the machine's. Node.Local must then say OwnResolver, too.
	DNS Address
	// Admin is where Envoy's own admin interface listens.
	Admin Address
	// StaticHost is where the health and the statistics listeners bind; empty
	// means every IPv4 address, "::" every one of either family.
	StaticHost string
}

// JSON is the bootstrap file's content.
func (b *Bootstrap) JSON() ([]byte, error) {
	p, err := b.Proto()
	if err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{Multiline: true}.Marshal(p)
}

// Proto is the bootstrap as Envoy's message.
func (b *Bootstrap) Proto() (*bootstrapv3.Bootstrap, error) {
	node, err := b.Node.proto()
	if err != nil {
		return nil, err
	}
	listeners, err := b.staticListeners()
	if err != nil {
		return nil, err
	}
	clusters, err := b.clusters()
	if err != nil {
		return nil, err
	}
	dns, err := b.resolver()
	if err != nil {
		return nil, err
	}
	return &bootstrapv3.Bootstrap{
		TypedDnsResolverConfig: dns,

		Node:             node,
		Admin:            &bootstrapv3.Admin{Address: b.Admin.proto()},
		DynamicResources: b.dynamic(),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: listeners,
			Clusters:  clusters,
		},
		LayeredRuntime: runtimeLayers(),
		StatsConfig:    statsTags(b.Stats),
	}, nil
}

func (b *Bootstrap) dynamic() *bootstrapv3.Bootstrap_DynamicResources {
	api := core.ApiConfigSource_DELTA_GRPC
	if b.StateOfTheWorld {
		api = core.ApiConfigSource_GRPC
	}
	return &bootstrapv3.Bootstrap_DynamicResources{
		LdsConfig: overADS(), CdsConfig: overADS(),
		AdsConfig: &core.ApiConfigSource{
			ApiType: api, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: xdsCluster},
			}}},
		},
	}
}

// overADS waits for its first answer without limit: an Envoy must not report
// itself ready without configuration.
func overADS() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func (b *Bootstrap) clusters() ([]*cluster.Cluster, error) {
	h2, err := http2()
	if err != nil {
		return nil, err
	}
	xds := staticCluster(xdsCluster, b.Discovery)
	xds.TypedExtensionProtocolOptions = h2
	if xds.GetType() == cluster.Cluster_STRICT_DNS {
		xds.DnsLookupFamily = cluster.Cluster_V4_PREFERRED
		// A Service's address hardly ever changes, and every proxy asks.
		xds.DnsRefreshRate, xds.DnsJitter = durationpb.New(time.Minute), durationpb.New(10*time.Second) //nolint:staticcheck // type STRICT_DNS has no other field
		xds.DnsFailureRefreshRate = &cluster.Cluster_RefreshRate{ //nolint:staticcheck // type STRICT_DNS has no other field
			BaseInterval: durationpb.New(500 * time.Millisecond), MaxInterval: durationpb.New(10 * time.Second),
		}
	}
	if xds.TransportSocket, err = b.discoveryTLS(); err != nil {
		return nil, err
	}
	out := []*cluster.Cluster{xds, staticCluster(adminCluster, b.Admin)}
	if b.Secrets.Path != "" {
		sds := staticCluster(sdsCluster, b.Secrets)
		sds.TypedExtensionProtocolOptions = h2
		out = append(out, sds)
	}
	if b.Agent.Host != "" {
		out = append(out, staticCluster(agentCluster, b.Agent))
	}
	return out, nil
}

func http2() (map[string]*anypb.Any, error) {
	h2, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &core.Http2ProtocolOptions{
						// A control plane that vanished without closing must be noticed.
						ConnectionKeepalive: &core.KeepaliveSettings{
							Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(10 * time.Second),
						},
					},
				},
			},
		},
	})
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2}, err
}

func staticCluster(name string, to Address) *cluster.Cluster {
	return &cluster.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: to.discovery()},
		LoadAssignment: &endpoint.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
				HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: to.proto()}},
			}}}},
		},
	}
}

func (b *Bootstrap) staticListeners() ([]*listener.Listener, error) {
	ready := pathRoute("/healthz/ready", adminCluster, "/ready")
	if b.Agent.Host != "" {
		ready = pathRoute("/healthz/ready", agentCluster, "")
	}
	health, err := httpListener(b.StaticHost, HealthPort, ready)
	if err != nil {
		return nil, err
	}
	stats, err := httpListener(b.StaticHost, StatsPort, pathRoute("/stats/prometheus", adminCluster, ""))
	if err != nil {
		return nil, err
	}
	return []*listener.Listener{stats, health}, nil
}

func (b *Bootstrap) resolver() (*core.TypedExtensionConfig, error) {
	if b.DNS.Host == "" {
		return nil, nil
	}
	at := b.DNS.proto()
	at.GetSocketAddress().Protocol = core.SocketAddress_UDP
	c, err := anypb.New(&cares.CaresDnsResolverConfig{
		Resolvers:          []*core.Address{at},
		DnsResolverOptions: &core.DnsResolverOptions{NoDefaultSearchDomain: true},
	})
	if err != nil {
		return nil, err
	}
	return &core.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: c}, nil
}

func runtimeLayers() *bootstrapv3.LayeredRuntime {
	static := &structpb.Struct{Fields: map[string]*structpb.Value{
		"overload.global_downstream_max_connections": structpb.NewStringValue(strconv.Itoa(1<<31 - 1)),
		// Istio's users write regular expressions beyond Envoy's default of 100.
		"re2.max_program_size.error_level": structpb.NewNumberValue(32768),
	}}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
		{Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: static}},
		{Name: "admin", LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}}},
	}}
}
