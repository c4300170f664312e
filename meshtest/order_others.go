package meshtest

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// changedOthers are the objects that differ and are none of Istio's: services
// and their endpoints, workloads, certificates.
func changedOthers(before, after *config.Mesh) []config.Key {
	seen, pods := map[config.Key]bool{}, map[config.Key]bool{}
	for a, b := range after.Services.Changed(before.Services) {
		noteChange(seen, a, b, func(s *config.Service) *config.Meta { return &s.Meta })
	}
	for a, b := range after.Workloads.Changed(before.Workloads) {
		noteChange(pods, a, b, func(w *config.Workload) *config.Meta { return &w.Meta })
		for _, w := range []*config.Workload{a, b} {
			if w != nil && pods[w.Key] {
				seen[ownerOf(w)] = true
			}
		}
	}
	for a, b := range after.Secrets.Changed(before.Secrets) {
		noteChange(seen, a, b, func(s *config.Secret) *config.Meta { return &s.Meta })
	}
	for a, b := range after.ConfigMaps.Changed(before.ConfigMaps) {
		noteChange(seen, a, b, func(s *config.ConfigMap) *config.Meta { return &s.Meta })
	}
	for a, b := range after.Endpoints.Changed(before.Endpoints) {
		if len(seen) > 0 { // which make them
			break
		}
		if a == nil || b == nil || !reflect.DeepEqual(a.ByPort, b.ByPort) {
			id := cmp.Or(b, a).ID
			seen[config.Key{Kind: "endpoints of", Namespace: id.Namespace, Name: id.Hostname}] = true
		}
	}
	out := make([]config.Key, 0, len(seen))
	for k := range seen {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b config.Key) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	return out
}

// ownerOf is what somebody wrote that makes a pod.
func ownerOf(w *config.Workload) config.Key {
	if w.Owner.Name == "" {
		return w.Key
	}
	k := w.Owner
	k.Namespace = w.Namespace
	return k
}

// noteChange notes an object whose content differs, wherever it stands in files.
func noteChange[T any](seen map[config.Key]bool, a, b *T, meta func(*T) *config.Meta) {
	switch {
	case a == nil:
		seen[meta(b).Key] = true
	case b == nil:
		seen[meta(a).Key] = true
	default:
		x, y := *a, *b
		for _, m := range []*config.Meta{meta(&x), meta(&y)} {
			m.File, m.Line, m.Lines, m.Hash, m.ResourceVersion = "", 0, nil, 0, ""
		}
		if !reflect.DeepEqual(x, y) {
			seen[meta(b).Key] = true
		}
	}
}
