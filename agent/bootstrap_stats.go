package agent

// Remote is a gRPC service outside of the mesh that an Envoy reports to.
type Remote struct {
	Address
	// TLS is how to talk to it; nil for plaintext.
	TLS *RemoteTLS
	// Keepalive tests idle connections; nil for the machine's defaults.
	Keepalive *Keepalive
}

// RemoteTLS is TLS to a Remote. Files are PEM and in the pod.
type RemoteTLS struct {
	// Certificate and Key are shown to the server, or with Workload the
	// workload's own from the agent; without either none is.
	Certificate, Key string
	Workload         bool
	// Authorities are trusted; empty means the system's, with Workload the mesh's.
	Authorities string
	Name        string   // SNI
	Subjects    []string // names of which the server's certificate must carry one; empty: Name
}

// Keepalive is TCP's: probes, and seconds before the first and between them;
// 0 is the machine's default.
type Keepalive struct{ Probes, Time, Interval uint32 }

// systemAuthorities is where Debian, Ubuntu, Alpine and the proxy's image have
// them.
const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"

// statsSinks are those that Envoy sends its statistics to.
func (b *Bootstrap) statsSinks() list {
	out := list{}
	if b.Statsd.Host != "" {
		at := b.Statsd.json()
		at["socketAddress"].(object)["protocol"] = "UDP"
		out = append(out, object{"name": "envoy.stat_sinks.statsd", "typedConfig": typed(
			"envoy.config.metrics.v3.StatsdSink", object{"address": at})})
	}
	if b.Metrics != nil {
		out = append(out, object{"name": "envoy.stat_sinks.metrics_service", "typedConfig": typed(
			"envoy.config.metrics.v3.MetricsServiceConfig", object{
				"transportApiVersion": "V3",
				"grpcService":         object{"envoyGrpc": object{"clusterName": metricsCluster}},
			})})
	}
	return out
}

func (r *Remote) cluster(name string) object {
	out := staticCluster(name, r.Address)
	out["typedExtensionProtocolOptions"] = http2()
	if k := r.Keepalive; k != nil {
		alive := object{}
		for field, v := range map[string]uint32{"keepaliveProbes": k.Probes, "keepaliveTime": k.Time, "keepaliveInterval": k.Interval} {
			if v > 0 {
				alive[field] = v
			}
		}
		out["upstreamConnectionOptions"] = object{"tcpKeepalive": alive}
	}
	if r.TLS != nil {
		out["transportSocket"] = object{"name": "envoy.transport_sockets.tls", "typedConfig": typed(
			"envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", r.TLS.context())}
	}
	return out
}

func (t *RemoteTLS) context() object {
	common := object{"alpnProtocols": list{"h2"}}
	subjects := t.Subjects
	if len(subjects) == 0 && t.Name != "" {
		subjects = []string{t.Name}
	}
	names := list{}
	for _, s := range subjects {
		for _, kind := range []string{"DNS", "URI"} {
			names = append(names, object{"sanType": kind, "matcher": object{"exact": s}})
		}
	}
	check := object{"matchTypedSubjectAltNames": names}
	if t.Workload && t.Authorities == "" {
		common["combinedValidationContext"] = object{
			"validationContextSdsSecretConfig": fromAgent(RootsSecret), "defaultValidationContext": check,
		}
	} else {
		file := t.Authorities
		if file == "" {
			file = systemAuthorities
		}
		check["trustedCa"] = object{"filename": file}
		common["validationContext"] = check
	}
	switch {
	case t.Workload:
		common["tlsCertificateSdsSecretConfigs"] = list{fromAgent(CertificateSecret)}
	case t.Certificate != "":
		common["tlsCertificates"] = list{object{
			"certificateChain": object{"filename": t.Certificate}, "privateKey": object{"filename": t.Key},
		}}
	}
	out := object{"commonTlsContext": common}
	if t.Name != "" {
		out["sni"] = t.Name
	}
	return out
}

// compressor offers gzip for text, which Envoy's statistics shrink by much.
func compressor() object {
	return object{"name": "envoy.filters.http.compressor", "typedConfig": typed(
		"envoy.extensions.filters.http.compressor.v3.Compressor", object{
			"compressorLibrary": object{"name": "gzip", "typedConfig": typed(
				"envoy.extensions.compression.gzip.compressor.v3.Gzip", nil)},
		})}
}
