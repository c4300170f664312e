package config_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func TestParseMeshConfigOverDefaults(t *testing.T) {
	for _, c := range []struct{ name, yaml, field, want string }{
		{"a scalar", "connectTimeout: 3s", "connect_timeout", "connect_timeout:{seconds:3}"},
		{"a zero value is a value", "enableTracing: false", "enable_tracing", ""},
		{"the enum's zero value is a value", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "outbound_traffic_policy", "outbound_traffic_policy:{}"},
		{"a message replaces as a whole", "localityLbSetting: {failover: [{from: a, to: b}]}", "locality_lb_setting",
			`locality_lb_setting:{failover:{from:"a" to:"b"}}`},
		{"a list replaces", "defaultServiceExportTo: ['.']", "default_service_export_to", `default_service_export_to:"."`},
		{"null is absent", "connectTimeout:", "connect_timeout", "connect_timeout:{seconds:10}"},
		{"snake case", "connect_timeout: 3s", "connect_timeout", "connect_timeout:{seconds:3}"},
		{"an empty root namespace is the default", "rootNamespace: ''", "root_namespace", `root_namespace:"istio-system"`},
		{"nothing", "", "trust_domain", `trust_domain:"cluster.local"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			mc, unknown, err := config.ParseMeshConfig(c.yaml)
			if err != nil || len(unknown) > 0 {
				t.Fatal(err, unknown)
			}
			want := &meshconfig.MeshConfig{}
			if err := prototext.Unmarshal([]byte(c.want), want); err != nil {
				t.Fatal(err)
			}
			got := &meshconfig.MeshConfig{}
			for i := range mc.ProtoReflect().Descriptor().Fields().Len() {
				if fd := mc.ProtoReflect().Descriptor().Fields().Get(i); string(fd.Name()) == c.field && mc.ProtoReflect().Has(fd) {
					got.ProtoReflect().Set(fd, mc.ProtoReflect().Get(fd))
				}
			}
			if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseMeshConfigReadsDefaultConfigFieldByField(t *testing.T) {
	mc, _, err := config.ParseMeshConfig("defaultConfig: {concurrency: 4, proxyAdminPort: 0, proxyMetadata: {A: b}}")
	if err != nil {
		t.Fatal(err)
	}
	c := mc.GetDefaultConfig()
	if c.GetConcurrency().GetValue() != 4 || c.GetProxyAdminPort() != 0 || c.GetDiscoveryAddress() != "istiod.istio-system.svc:15012" ||
		c.GetProxyMetadata()["A"] != "b" {
		t.Error(c)
	}
}

func TestParseMeshConfigNamesUnknownFields(t *testing.T) {
	mc, unknown, err := config.ParseMeshConfig("trustDomain: td\nfoo: 1\ndefaultConfig: {bar: 2}\nextensionProviders: [{name: x, zipkn: {}}]")
	if err != nil || mc.GetTrustDomain() != "td" {
		t.Fatal(mc, err)
	}
	slices.Sort(unknown)
	if d := cmp.Diff([]string{"defaultConfig.bar", "extensionProviders[0].zipkn", "foo"}, unknown); d != "" {
		t.Error(d)
	}
}

func TestParseMeshConfigErrors(t *testing.T) {
	for _, text := range []string{"a: [", "- a", "connectTimeout: soon", "enableTracing: 7", "outboundTrafficPolicy: {mode: REGISTRY_ONY}"} {
		if mc, _, err := config.ParseMeshConfig(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, mc)
		}
	}
}

func TestOverlayProxyConfig(t *testing.T) {
	base := &meshconfig.ProxyConfig{StatusPort: 15020, ProxyMetadata: map[string]string{"A": "base", "B": "base"}}
	got, unknown, err := config.OverlayProxyConfig(base, "{proxyMetadata: {B: over}, drainDuration: 90s, nope: 1}")
	if err != nil {
		t.Fatal(err)
	}
	want := &meshconfig.ProxyConfig{
		StatusPort: 15020, ProxyMetadata: map[string]string{"A": "base", "B": "over"}, DrainDuration: durationpb.New(90 * time.Second),
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"nope"}, unknown); d != "" || base.ProxyMetadata["B"] != "base" {
		t.Error(d, base)
	}
	if _, _, err := config.OverlayProxyConfig(base, "concurrency: many"); err == nil {
		t.Error("read a word as a number")
	}
}
