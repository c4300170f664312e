package meshtest

import (
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// changedObjects lists the objects of Istio's API, services and workloads
// that differ; where they stand in files does not matter.
func changedObjects(before, after *config.Mesh) []ObjectChange {
	out := []ObjectChange{}
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.ServiceEntry] { return &m.ServiceEntries })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.PeerAuthentication] { return &m.PeerAuthentications })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.RequestAuthentication] { return &m.RequestAuthentications })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.Telemetry] { return &m.Telemetries })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.EnvoyFilter] { return &m.EnvoyFilters })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.WorkloadEntry] { return &m.WorkloadEntries })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.WorkloadGroup] { return &m.WorkloadGroups })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.ProxyConfig] { return &m.ProxyConfigs })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.TrafficExtension] { return &m.TrafficExtensions })
	out = compareSpecs(out, before, after, func(m *config.Mesh) *config.Index[*config.WasmPlugin] { return &m.WasmPlugins })
	if !proto.Equal(before.Settings.Mesh, after.Settings.Mesh) {
		key := config.Key{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}
		out = append(out, ObjectChange{Object: key, Change: "changed", File: after.Settings.File, Line: after.Settings.Line,
			apply: func(m *config.Builder) { m.SetSettings(after.Settings) }})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Object.Less(out[j].Object) })
	return out
}

func compareSpecs[T proto.Message](out []ObjectChange, before, after *config.Mesh, of func(*config.Mesh) *config.Index[*config.Object[T]]) []ObjectChange {
	for a, b := range of(after).Changed(*of(before)) {
		switch {
		case a == nil:
			out = append(out, ObjectChange{Object: b.Key, Change: "added", File: b.File, Line: b.Line, apply: func(m *config.Builder) { config.Put(m, of, b) }})
		case b == nil:
			out = append(out, ObjectChange{Object: a.Key, Change: "removed", File: a.File, Line: a.Line, apply: func(m *config.Builder) { config.Remove(m, of, a.Namespace, a.Name) }})
		case !proto.Equal(a.Spec, b.Spec):
			out = append(out, ObjectChange{Object: b.Key, Change: "changed", File: b.File, Line: b.Line, apply: func(m *config.Builder) { config.Put(m, of, b) }})
		}
	}
	return out
}
