package translate

import (
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/structpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Names of the secrets that an agent serves the proxy beside it.
const (
	workloadCertificate = "default"
	meshAuthorities     = "ROOTCA"
)

// autoMeshTLS speaks mesh TLS to the endpoints that take it, and plaintext to
// the others (MeshConfig.enableAutoMtls).
func (d *clusterDraft) autoMeshTLS() {
	if !d.traits.certificates || d.service.External || d.service.isForwarded() || d.service.Peers == nil ||
		!enabled(d.settings.Mesh.GetEnableAutoMtls()) || d.service.Peers.rules.mode == PeerDisable {
		return
	}
	if d.out.GetType() == cluster.Cluster_ORIGINAL_DST {
		// Whichever address the client asked for: nothing tells what it takes.
		if d.service.Peers.allTakeMeshTLS(d.service.Service, d.port) {
			d.out.TransportSocket = tlsTransport(d.meshTLS(nil))
		}
		return
	}
	// The others get the cluster's own transport socket, which is plaintext.
	d.out.TransportSocketMatches = []*cluster.Cluster_TransportSocketMatch{{
		Name:            meshTLSMatch,
		Match:           &structpb.Struct{Fields: map[string]*structpb.Value{tlsModeKey: structpb.NewStringValue(tlsModeIstio)}},
		TransportSocket: tlsTransport(d.meshTLS(nil)),
	}}
}

// Names of a cluster's transport socket matches, as Istio has them.
const (
	meshTLSMatch   = "tlsMode-istio"
	plaintextMatch = "tlsMode-disabled"
)

// What an endpoint's metadata says of an endpoint that takes mesh TLS.
const (
	tlsModeKey   = "tlsMode"
	tlsModeIstio = "istio"
)

// meshTLS is TLS with the workload's own certificate, which the agent beside
// the proxy serves. t may be nil.
func (d *clusterDraft) meshTLS(t *networking.ClientTLSSettings) *tls.UpstreamTlsContext {
	c := &tls.UpstreamTlsContext{Sni: t.GetSni(), CommonTlsContext: &tls.CommonTlsContext{TlsParams: meshTLSParams(d.settings.Mesh)}}
	if c.Sni == "" && !d.service.isForwarded() {
		c.Sni = SNICluster(d.port.Number, d.subset.GetName(), d.service.Hostname)
	}
	if d.service.isForwarded() {
		d.verifyAsAsked(t)
	}
	c.CommonTlsContext.TlsCertificateSdsSecretConfigs = []*tls.SdsSecretConfig{agentSecret(workloadCertificate)}
	check := &tls.CertificateValidationContext{MatchTypedSubjectAltNames: altNames(d.peerNames(t))}
	c.CommonTlsContext.ValidationContextType = d.validation(check, agentSecret(meshAuthorities))
	c.CommonTlsContext.AlpnProtocols = []string{"istio"}
	if d.http2() != nil {
		c.CommonTlsContext.AlpnProtocols = []string{"istio", "h2"}
	}
	d.announceRequests()
	return c
}

// peerNames are the names that an endpoint's certificate must have one of: the
// rule's, or else those of the service's endpoints. Nobody is known to serve a
// service without endpoints; whoever comes then is a member of the mesh.
func (d *clusterDraft) peerNames(t *networking.ClientTLSSettings) []string {
	if names := t.GetSubjectAltNames(); len(names) > 0 {
		return names
	}
	names := d.service.Peers.identities(d.settings.Mesh)
	if !d.service.Kubernetes {
		names = append(names, d.service.SubjectAltNames...)
	}
	return sortedSet(names)
}

// announceRequests leaves word for the listener that requests to this cluster
// say in their TLS handshake that they are requests, so that the sidecar at
// the other end need not take them for bare connections (stateFilter).
func (d *clusterDraft) announceRequests() {
	if !d.traits.setsState || !d.port.Protocol.IsHTTP() && d.port.Protocol != config.ProtocolUnset {
		return
	}
	names := []string{"istio-http/1.1", "istio"}
	if d.http2() != nil {
		names = []string{"istio-h2", "istio", "h2"}
	}
	d.out.Metadata.FilterMetadata[provenanceFilter].Fields[alpnField] = structpb.NewStringValue(strings.Join(names, ","))
}

// alpnField of a cluster's metadata holds the application protocols that a
// request to it announces.
const alpnField = "alpn"

// withoutCertificates empties a cluster whose rule wants mesh TLS of a proxy
// that cannot speak it: plaintext would break the rule's promise.
func (d *clusterDraft) withoutCertificates() {
	d.setType(cluster.Cluster_STATIC)
	d.out.LoadAssignment = nil
	d.out.LbPolicy = cluster.Cluster_ROUND_ROBIN
	d.out.LbConfig = nil
	meta := &d.service.Meta
	if d.service.Rule != nil {
		meta = d.service.Rule.Sources[0]
	}
	d.problems = append(d.problems, config.At(meta, "spec.trafficPolicy.tls.mode", config.Warning, "CertificateMissing",
		"is ISTIO_MUTUAL, but nobody serves certificates to some of the proxies that call %s: their requests fail. Give them an agent, or use mode DISABLE",
		d.service.Hostname))
}

// meshTLSParams are the versions and ciphers of TLS inside the mesh
// (MeshConfig.meshMTLS).
func meshTLSParams(m *meshconfig.MeshConfig) *tls.TlsParameters {
	mesh := m.GetMeshMTLS()
	p := &tls.TlsParameters{
		TlsMinimumProtocolVersion: tls.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tls.TlsParameters_TLSv1_3,
		CipherSuites:              known(ciphers, mesh.GetCipherSuites()),
	}
	if v, ok := minVersions[mesh.GetMinProtocolVersion()]; ok {
		p.TlsMinimumProtocolVersion = v
	}
	return p
}

// agentSecret asks the agent in the proxy's pod, under the name that the
// bootstrap gives its socket.
func agentSecret(name string) *tls.SdsSecretConfig {
	return &tls.SdsSecretConfig{Name: name, SdsConfig: &core.ConfigSource{
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType:                   core.ApiConfigSource_GRPC,
			TransportApiVersion:       core.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: agentSecretCluster},
			}}},
		}},
		InitialFetchTimeout: adsConfig().InitialFetchTimeout,
		ResourceApiVersion:  core.ApiVersion_V3,
	}}
}

// agentSecretCluster is the bootstrap's name for the agent's SDS socket.
const agentSecretCluster = "sds-grpc"
