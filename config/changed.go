package config

import (
	"iter"

	"google.golang.org/protobuf/proto"
)

// ChangedObjects yields, by kind, the Meta before and after of each object of
// Istio's API that differs between prev, which may be nil, and m; nil stands
// for an absent one. Its cost is that of the namespaces that differ.
func (m *Mesh) ChangedObjects(prev *Mesh) iter.Seq2[*Meta, *Meta] {
	if prev == nil {
		prev = &Mesh{}
	}
	return func(yield func(before, after *Meta) bool) {
		for _, kind := range []iter.Seq2[*Meta, *Meta]{
			metas(m.VirtualServices, prev.VirtualServices),
			metas(m.DestinationRules, prev.DestinationRules),
			metas(m.Gateways, prev.Gateways),
			metas(m.ServiceEntries, prev.ServiceEntries),
			metas(m.Sidecars, prev.Sidecars),
			metas(m.WorkloadEntries, prev.WorkloadEntries),
			metas(m.WorkloadGroups, prev.WorkloadGroups),
			metas(m.EnvoyFilters, prev.EnvoyFilters),
			metas(m.ProxyConfigs, prev.ProxyConfigs),
			metas(m.PeerAuthentications, prev.PeerAuthentications),
			metas(m.RequestAuthentications, prev.RequestAuthentications),
			metas(m.AuthorizationPolicies, prev.AuthorizationPolicies),
			metas(m.Telemetries, prev.Telemetries),
			metas(m.TrafficExtensions, prev.TrafficExtensions),
			metas(m.WasmPlugins, prev.WasmPlugins),
		} {
			for before, after := range kind {
				if !yield(before, after) {
					return
				}
			}
		}
	}
}

func metas[S proto.Message](now, prev Index[*Object[S]]) iter.Seq2[*Meta, *Meta] {
	return func(yield func(before, after *Meta) bool) {
		for before, after := range now.Changed(prev) {
			var b, a *Meta
			if before != nil {
				b = &before.Meta
			}
			if after != nil {
				a = &after.Meta
			}
			if !yield(b, a) {
				return
			}
		}
	}
}
