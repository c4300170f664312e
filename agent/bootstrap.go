package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"
)

// The ports in a pod that tools and probes rely on.
const (
	AdminPort  = 15000 // Envoy's admin interface, on loopback
	StatusPort = 15020 // the agent: merged metrics, probes of the application
	HealthPort = 15021 // /healthz/ready
	DNSPort    = 15053 // the agent's DNS, on loopback
	StatsPort  = 15090 // /stats/prometheus
)

// The static clusters. Translation names sds-grpc, pilotfish-telemetry and
// pilotfish-modules.
const (
	xdsCluster   = "xds-grpc"
	sdsCluster   = "sds-grpc"
	adminCluster = "prometheus_stats"
	agentCluster = "agent"
	logCluster   = "pilotfish-telemetry"
	wasmCluster  = "pilotfish-modules"
	// The name that Istio's bootstrap has for it.
	metricsCluster = "envoy_metrics_service"
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
	// Telemetry is the socket of an agent that takes Envoy's access log; without
	// a path there is none.
	Telemetry Address
	// Modules is the socket of an agent that serves Wasm extensions with their
	// modules in place; without a path there is none.
	Modules Address
	// Agent answers /healthz/ready and knows more than Envoy's admin interface,
	// which answers if Agent has no host.
	Agent Address
	// Stats are the statistics that Envoy keeps; nil keeps all.
	Stats *StatsMatcher
	// FlushStats is how often Envoy sends them to sinks; 0 is its own default.
	FlushStats time.Duration
	// Buckets are those of Envoy's histograms; the first that matches counts.
	Buckets []HistogramBuckets
	// CompressStats offers gzip to who scrapes the statistics.
	CompressStats bool
	// OutlierLog is the file in which Envoy logs what outlier detection does;
	// empty for none.
	OutlierLog string
	// Statsd is an IP address and port where a statsd takes statistics over UDP;
	// without a host there is none.
	Statsd Address
	// Metrics is a service that takes statistics over gRPC (Envoy's metrics
	// service); nil for none.
	Metrics *Remote
	// Runtime are further values of Envoy's static runtime layer.
	Runtime map[string]any
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

// StatsMatcher names the statistics that an Envoy keeps.
type StatsMatcher struct{ Prefixes, Suffixes, Regexes []string }

// HistogramBuckets are the upper bounds of the buckets of those histograms whose
// names begin with Prefix.
type HistogramBuckets struct {
	Prefix string
	Bounds []float64
}

// object is a JSON object. The bootstrap is made of these rather than of
// Envoy's messages: the types alone of those would take a third of the memory
// that the agent in a pod may have. A test reads it back as Envoy's message.
type object = map[string]any

type list = []any

// JSON is the bootstrap file's content.
func (b *Bootstrap) JSON() ([]byte, error) {
	node, err := b.Node.json()
	if err != nil {
		return nil, err
	}
	if b.Telemetry.Path != "" {
		node["metadata"].(object)["PILOTFISH_TELEMETRY"] = "true"
	}
	if b.Modules.Path != "" {
		node["metadata"].(object)["PILOTFISH_MODULES"] = "true"
	}
	out := object{
		"node":             node,
		"admin":            object{"address": b.Admin.json()},
		"dynamicResources": b.dynamic(),
		"staticResources":  object{"listeners": b.staticListeners(), "clusters": b.clusters()},
		"layeredRuntime":   b.runtimeLayers(),
		"statsConfig":      b.statsConfig(),
	}
	if b.FlushStats > 0 {
		out["statsFlushInterval"] = strconv.FormatFloat(b.FlushStats.Seconds(), 'f', -1, 64) + "s"
	}
	if b.OutlierLog != "" {
		out["clusterManager"] = object{"outlierDetection": object{"eventLogPath": b.OutlierLog}}
	}
	if sinks := b.statsSinks(); len(sinks) > 0 {
		out["statsSinks"] = sinks
	}
	if b.DNS.Host != "" {
		out["typedDnsResolverConfig"] = b.resolver()
	}
	js, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return js, nil
}

func typed(message string, fields object) object {
	out := object{"@type": "type.googleapis.com/" + message}
	for k, v := range fields {
		out[k] = v
	}
	return out
}

func (b *Bootstrap) dynamic() object {
	api := "DELTA_GRPC"
	if b.StateOfTheWorld {
		api = "GRPC"
	}
	return object{"ldsConfig": overADS(), "cdsConfig": overADS(), "adsConfig": grpcSource(api, xdsCluster)}
}

func grpcSource(api, cluster string) object {
	return object{
		"apiType": api, "transportApiVersion": "V3", "setNodeOnFirstMessageOnly": true,
		"grpcServices": list{object{"envoyGrpc": object{"clusterName": cluster}}},
	}
}

// overADS waits for its first answer without limit: an Envoy must not report
// itself ready without configuration.
func overADS() object {
	return object{"resourceApiVersion": "V3", "initialFetchTimeout": "0s", "ads": object{}}
}

func (b *Bootstrap) clusters() list {
	xds := staticCluster(xdsCluster, b.Discovery)
	xds["typedExtensionProtocolOptions"] = http2()
	if xds["type"] == dnsCluster {
		xds["dnsLookupFamily"] = "V4_PREFERRED"
		// A Service's address hardly ever changes, and every proxy asks.
		xds["dnsRefreshRate"], xds["dnsJitter"] = "60s", "10s"
		xds["dnsFailureRefreshRate"] = object{"baseInterval": "0.5s", "maxInterval": "10s"}
	}
	if b.DiscoveryName != "" {
		xds["transportSocket"] = b.discoveryTLS()
	}
	out := list{xds, staticCluster(adminCluster, b.Admin)}
	if b.Secrets.Path != "" {
		sds := staticCluster(sdsCluster, b.Secrets)
		sds["typedExtensionProtocolOptions"] = http2()
		out = append(out, sds)
	}
	if b.Telemetry.Path != "" {
		als := staticCluster(logCluster, b.Telemetry)
		als["typedExtensionProtocolOptions"] = http2()
		out = append(out, als)
	}
	if b.Modules.Path != "" {
		ecds := staticCluster(wasmCluster, b.Modules)
		ecds["typedExtensionProtocolOptions"] = http2()
		out = append(out, ecds)
	}
	if b.Agent.Host != "" {
		out = append(out, staticCluster(agentCluster, b.Agent))
	}
	if b.Metrics != nil {
		out = append(out, b.Metrics.cluster(metricsCluster))
	}
	return out
}

func http2() object {
	return object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions", object{
			"explicitHttpConfig": object{"http2ProtocolOptions": object{
				// A control plane that vanished without closing must be noticed.
				"connectionKeepalive": object{"interval": "30s", "timeout": "10s"},
			}},
		})}
}

const dnsCluster = "STRICT_DNS"

func staticCluster(name string, to Address) object {
	return object{
		"name": name, "connectTimeout": "1s", "type": to.discovery(),
		"loadAssignment": object{"clusterName": name, "endpoints": list{object{
			"lbEndpoints": list{object{"endpoint": object{"address": to.json()}}},
		}}},
	}
}

// discoveryTLS is mutual TLS to the control plane. Envoy waits for the agent's
// secrets before it connects.
func (b *Bootstrap) discoveryTLS() object {
	return object{"name": "envoy.transport_sockets.tls", "typedConfig": typed(
		"envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", object{
			"sni": b.DiscoveryName,
			"commonTlsContext": object{
				"alpnProtocols":                  list{"h2"},
				"tlsParams":                      object{"tlsMinimumProtocolVersion": "TLSv1_2", "tlsMaximumProtocolVersion": "TLSv1_3"},
				"tlsCertificateSdsSecretConfigs": list{fromAgent(CertificateSecret)},
				"combinedValidationContext": object{
					"validationContextSdsSecretConfig": fromAgent(RootsSecret),
					"defaultValidationContext": object{"matchTypedSubjectAltNames": list{
						object{"sanType": "DNS", "matcher": object{"exact": b.DiscoveryName}},
					}},
				},
			},
		})}
}

func fromAgent(secret string) object {
	return object{"name": secret, "sdsConfig": object{
		"resourceApiVersion": "V3", "initialFetchTimeout": "0s", "apiConfigSource": grpcSource("GRPC", sdsCluster),
	}}
}

func (b *Bootstrap) resolver() object {
	at := b.DNS.json()
	at["socketAddress"].(object)["protocol"] = "UDP"
	return object{"name": "envoy.network.dns_resolver.cares", "typedConfig": typed(
		"envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig", object{
			"resolvers": list{at}, "dnsResolverOptions": object{"noDefaultSearchDomain": true},
		})}
}

func (b *Bootstrap) runtimeLayers() object {
	static := object{
		"overload.global_downstream_max_connections": strconv.Itoa(1<<31 - 1),
		// Istio's users write regular expressions beyond Envoy's default of 100.
		"re2.max_program_size.error_level": 32768,
		// As with Istio, a path's #fragment is taken off: Envoy would refuse the request.
		"envoy.reloadable_features.http_reject_path_with_fragment": false,
	}
	maps.Copy(static, b.Runtime)
	return object{"layers": list{
		object{"name": "static", "staticLayer": static},
		object{"name": "admin", "adminLayer": object{}},
	}}
}
