package translate

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// serviceProvenance is provenance for what a service alone makes: nothing for a
// Kubernetes Service of a cluster, since the services of a cluster's metadata
// name it, and a route leads to that cluster. A thousand of each are sent to
// every proxy.
func serviceProvenance(s *config.Service) *core.Metadata {
	if s.Kubernetes && s.File == "" {
		return nil
	}
	return provenance(&s.Meta)
}

// provenance is the metadata that names the object a resource was made of:
// filter_metadata "istio", field "config", and "file" and "line" where the
// object was read from a file.
func provenance(m *config.Meta) *core.Metadata {
	fields := map[string]*structpb.Value{
		provenanceField: structpb.NewStringValue(m.ConfigPath()),
	}
	if m.File != "" {
		fields["file"] = structpb.NewStringValue(m.File)
		fields["line"] = structpb.NewNumberValue(float64(m.Line))
	}
	return &core.Metadata{FilterMetadata: map[string]*structpb.Struct{provenanceFilter: {Fields: fields}}}
}
