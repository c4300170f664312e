package translate

import (
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// statSuffix ends a cluster's name in statistics: names contain dots, and the
// tag extraction of the proxies' bootstrap looks for this.
const statSuffix = ";"

// statName is the cluster's name in statistics, by the mesh's pattern
// (outboundClusterStatName) if it has one.
func (d *clusterDraft) statName(name string) string {
	if pattern := d.settings.Mesh.GetOutboundClusterStatName(); pattern != "" {
		name = statPattern(pattern, d.service.Service, d.port, d.port.Number, d.subset.GetName())
	}
	return name + statSuffix
}

// statPattern fills in the placeholders that MeshConfig documents for
// statistics names. The short forms are those of Kubernetes Services; other
// hosts stay whole.
func statPattern(pattern string, s *config.Service, port config.ServicePort, targetPort uint32, subset string) string {
	short, name := s.Hostname, s.Hostname
	if s.Kubernetes {
		short, name = s.Name+"."+s.Namespace, s.Name
	}
	return strings.NewReplacer(
		"%SERVICE%", short,
		"%SERVICE_NAME%", name,
		"%SERVICE_FQDN%", s.Hostname,
		"%SUBSET_NAME%", subset,
		"%SERVICE_PORT%", strconv.FormatUint(uint64(port.Number), 10),
		"%TARGET_PORT%", strconv.FormatUint(uint64(targetPort), 10),
		"%SERVICE_PORT_NAME%", port.Name,
	).Replace(pattern)
}

// outboundMetadata says which service and which object the cluster stands for.
func (d *clusterDraft) outboundMetadata() *core.Metadata {
	m := serviceProvenance(d.service.Service)
	if d.service.Rule != nil {
		m = provenance(d.service.Rule.Sources[0])
	}
	if m == nil {
		m = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{provenanceFilter: {Fields: map[string]*structpb.Value{}}}}
	}
	fields := m.FilterMetadata[provenanceFilter].Fields
	fields["services"] = serviceList(d.service.Service)
	if d.service.External && d.subset == nil {
		fields["external"] = structpb.NewBoolValue(true)
	}
	if d.subset != nil {
		fields["subset"] = structpb.NewStringValue(d.subset.GetName())
	}
	switch d.policy.GetTls().GetMode() {
	case networking.ClientTLSSettings_SIMPLE, networking.ClientTLSSettings_MUTUAL:
		// The client's ALPN is the application's business here.
		fields["alpn_override"] = structpb.NewStringValue("false")
	}
	return m
}

func serviceList(services ...*config.Service) *structpb.Value {
	list := &structpb.ListValue{}
	for _, s := range services {
		list.Values = append(list.Values, structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"host":      structpb.NewStringValue(s.Hostname),
			"name":      structpb.NewStringValue(s.Name),
			"namespace": structpb.NewStringValue(s.Namespace),
		}}))
	}
	return structpb.NewListValue(list)
}
