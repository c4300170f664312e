package translate

import (
	"fmt"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// BootstrapType is the type URL of Envoy's bootstrap, under which Istio's agent
// asks for it.
const BootstrapType = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap"

// longestBootstrap bounds what a proxy may send, in bytes.
const longestBootstrap = 1 << 20

// Bootstrap is what EnvoyFilters make of a proxy's bootstrap, which is given as
// JSON; nil if none changes it. A patch that fails, or whose result is not valid,
// is left out and reported. An error says that the bootstrap itself cannot be read.
func (ix *Index) Bootstrap(p *config.Proxy, base []byte) (*Resource, []config.Problem, error) {
	patches := ix.bootstrapPatches(p)
	if len(patches) == 0 {
		return nil, nil, nil
	}
	if len(base) > longestBootstrap {
		return nil, nil, fmt.Errorf("bootstrap of %d bytes; at most %d are read", len(base), longestBootstrap)
	}
	m := &bootstrap.Bootstrap{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(base, m); err != nil {
		return nil, nil, fmt.Errorf("bootstrap: %s", plainError(err))
	}
	var problems []config.Problem
	var sources []*config.Meta
	for _, patch := range patches {
		next := proto.Clone(m).(*bootstrap.Bootstrap)
		err := patch.merge(next, patch.value)
		if err == nil {
			err = validateDeep(next.ProtoReflect())
		}
		if err != nil {
			problems = append(problems, patch.invalid("bootstrap", err))
			continue
		}
		m, sources = next, append(sources, &patch.filter.Meta)
	}
	if len(sources) == 0 {
		return nil, problems, nil
	}
	r, err := NewResource("bootstrap", m, Refs{}, sources...)
	return r, problems, err
}

// checkBootstrap tries a patch on what every proxy's bootstrap has.
func checkBootstrap(o networking.EnvoyFilter_Patch_Operation, value proto.Message) error {
	at := socketAddress("127.0.0.1", 15000)
	m := &bootstrap.Bootstrap{
		Admin: &bootstrap.Admin{Address: at},
		DynamicResources: &bootstrap.Bootstrap_DynamicResources{AdsConfig: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: "xds-grpc"}}}},
		}},
	}
	if err := mergeMode(o).message(m.ProtoReflect(), proto.Clone(value).ProtoReflect()); err != nil {
		return err
	}
	return validateDeep(m.ProtoReflect())
}

// bootstrapPatches are those for a proxy, in order. A context means the kind of
// proxy: the bootstrap has no sides.
func (ix *Index) bootstrapPatches(p *config.Proxy) []*patch {
	var out []*patch
	classes := ix.Classes(p)
	for _, f := range ix.filtersFor(p.Namespace, p.Labels) {
		for i, spec := range f.Spec.GetConfigPatches() {
			if spec.GetApplyTo() != networking.EnvoyFilter_BOOTSTRAP || !classes[0].Traits.match(spec.GetMatch().GetProxy()) {
				continue
			}
			for _, c := range classes {
				if !(&Scope{Class: c}).inContext(spec.GetMatch().GetContext()) {
					continue
				}
				if value, err := patchValue(spec); err == nil {
					out = append(out, &patch{filter: f, index: i, spec: spec, value: value})
				}
				break
			}
		}
	}
	return out
}
