package translate

import (
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// FuzzEnvoyFilter: whatever patches do, what is served passes Envoy's validation,
// carries its own name, and what no patch is for stays as it was.
func FuzzEnvoyFilter(f *testing.F) {
	AddCases(f, "EnvoyFilter")
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &networking.EnvoyFilter{}
		meta := config.Meta{Key: config.Key{Kind: "EnvoyFilter", Namespace: "ns", Name: "a"}}
		if len(data) > 16<<10 || !passes(data, &meta, spec) {
			return
		}
		b := fuzzedMesh()
		config.Put(b, func(m *config.Mesh) *config.Index[*config.EnvoyFilter] { return &m.EnvoyFilters }, &config.EnvoyFilter{Meta: meta, Spec: spec})
		m := b.Mesh()
		ix := NewIndex(m)
		ix.Problems()
		for _, kind := range []config.ProxyType{config.Sidecar, config.Router} {
			p := &config.Proxy{Type: kind, Namespace: "ns", IPs: []string{"10.0.0.1"}, Labels: spec.GetWorkloadSelector().GetLabels(), Raw: map[string]string{"ISTIO_VERSION": "1.31.0"}}
			var all []*Resources
			for _, c := range ix.Classes(p) {
				r := NewTranslator(1000).Translate(ix.Scope(c))
				all = append(all, r)
				patchedPass(t, r.Clusters, func() proto.Message { return &cluster.Cluster{} })
				patchedPass(t, r.Listeners, func() proto.Message { return &listener.Listener{} })
				patchedPass(t, r.Routes, func() proto.Message { return &route.RouteConfiguration{} })
				patchedPass(t, r.Extensions, func() proto.Message { return &core.TypedExtensionConfig{} })
			}
			UnmatchedPatches(all)
			if _, _, err := ix.Bootstrap(p, []byte(`{"admin": {"address": {"pipe": {"path": "/a"}}}}`)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func patchedPass(t *testing.T, set *Set, message func() proto.Message) {
	t.Helper()
	for _, r := range set.Items() {
		m := message()
		if err := proto.Unmarshal(r.Bytes(), m); err != nil {
			t.Fatal(err)
		}
		if err := (&patching{name: r.Name}).valid(m); err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
	}
}
