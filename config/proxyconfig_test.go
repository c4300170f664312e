package config_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networkingv1beta1 "istio.io/api/networking/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// keptByEmpty are the fields of ProxyConfig of which something stays when an
// empty value is written over them; of all others nothing does.
var keptByEmpty = map[string]string{
	"proxyMetadata": `{"proxyMetadata": {"x": "x"}}`,
	"proxyHeaders": `{"proxyHeaders": {"forwardedClientCert": "SANITIZE", "requestId": {"disabled": true}, "server": {"disabled": true, "value": "x"},
		"attemptCount": {"disabled": true}, "envoyDebugHeaders": {"disabled": true}}}`,
}

// Every field of ProxyConfig, written over one that says something, replaces
// it whole, but for those that are listed.
func TestProxyConfigFieldsOverlaid(t *testing.T) {
	fields := (&meshconfig.ProxyConfig{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		t.Run(fd.JSONName(), func(t *testing.T) {
			base := &meshconfig.ProxyConfig{}
			base.ProtoReflect().Set(fd, filled(base.ProtoReflect(), fd, 0))
			want := &meshconfig.ProxyConfig{}
			if kept, ok := keptByEmpty[fd.JSONName()]; ok {
				if err := protojson.Unmarshal([]byte(kept), want); err != nil {
					t.Fatal(err)
				}
			} else if fd.Message() != nil && !fd.IsList() && !fd.IsMap() || fd.ContainingOneof() != nil {
				want.ProtoReflect().Set(fd, want.ProtoReflect().NewField(fd)) // present, and empty
			}
			got, unknown, err := config.OverlayProxyConfig(base, fd.JSONName()+": "+empty(fd))
			if err != nil || len(unknown) > 0 {
				t.Fatal(err, unknown)
			}
			if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
				t.Error(d)
			}
			null, _, err := config.OverlayProxyConfig(base, fd.JSONName()+":")
			if d := cmp.Diff(base, null, protocmp.Transform()); d != "" || err != nil {
				t.Errorf("null is not absent: %v\n%s", err, d)
			}
		})
	}
}

// empty is a field's zero value in YAML.
func empty(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsList():
		return "[]"
	case fd.IsMap():
		return "{}"
	case fd.Message() != nil:
		switch fd.Message().FullName() {
		case "google.protobuf.Duration":
			return "0s"
		case "google.protobuf.BoolValue":
			return "false"
		case "google.protobuf.Int32Value", "google.protobuf.DoubleValue", "google.protobuf.UInt32Value":
			return "0"
		}
		return "{}"
	case fd.Kind() == protoreflect.BoolKind:
		return "false"
	case fd.Kind() == protoreflect.StringKind:
		return `""`
	}
	return "0"
}

// filled is a value of a field with all of its own fields set.
func filled(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch {
	case fd.IsMap():
		out := m.NewField(fd)
		key := protoreflect.ValueOfString("x").MapKey()
		if fd.MapValue().Message() != nil {
			out.Map().Mutable(key)
		} else {
			out.Map().Set(key, protoreflect.ValueOfString("x"))
		}
		return out
	case fd.IsList():
		out := m.NewField(fd)
		if fd.Message() != nil {
			out.List().AppendMutable()
		} else {
			out.List().Append(scalar(fd))
		}
		return out
	case fd.Message() != nil:
		out := m.NewField(fd)
		inner := fd.Message().Fields()
		for i := range inner.Len() {
			if depth < 4 {
				out.Message().Set(inner.Get(i), filled(out.Message(), inner.Get(i), depth+1))
			}
		}
		return out
	}
	return scalar(fd)
}

func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(7)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(7)
	}
	panic(fmt.Sprintf("a field of kind %v", fd.Kind()))
}

// What is said nearer to a workload goes before what is said for all: the
// mesh's defaultConfig, the ProxyConfig of the root namespace, of the namespace,
// the annotation, the ProxyConfig that selects the workload.
func TestEffectiveProxyConfig(t *testing.T) {
	mc, _, err := config.ParseMeshConfig(`
defaultConfig:
  concurrency: 1
  statusPort: 15999
  tracing: {sampling: 10, maxPathTagLength: 99, zipkin: {address: zipkin:9411}}
  proxyMetadata: {A: mesh, B: mesh, C: mesh, D: mesh, E: mesh}
  runtimeValues: {one: mesh, two: mesh}
  proxyHeaders: {server: {value: mesh}, requestId: {disabled: true}, preserveHttp1HeaderCase: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	b := config.NewBuilder(nil)
	put := func(ns, name string, age int, spec string) {
		t.Helper()
		o := &config.ProxyConfig{Spec: &networkingv1beta1.ProxyConfig{}}
		o.Key = config.Key{Kind: "ProxyConfig", Namespace: ns, Name: name}
		o.Created = time.Unix(int64(1000-age), 0)
		if err := protojson.Unmarshal([]byte(spec), o.Spec); err != nil {
			t.Fatal(err)
		}
		config.Put(b, func(m *config.Mesh) *config.Index[*config.ProxyConfig] { return &m.ProxyConfigs }, o)
	}
	put("istio-system", "all", 1, `{"concurrency": 2, "environmentVariables": {"B": "root", "C": "root", "D": "root", "E": "root"}, "image": {"imageType": "debug"}}`)
	put("shop", "all", 2, `{"concurrency": 3, "environmentVariables": {"C": "namespace", "D": "namespace", "E": "namespace"}}`)
	put("shop", "younger", 1, `{"concurrency": 33}`)
	put("shop", "web", 1, `{"selector": {"matchLabels": {"app": "web"}}, "environmentVariables": {"E": "workload"}, "image": {"imageType": "distroless"}}`)
	put("shop", "db", 1, `{"selector": {"matchLabels": {"app": "db"}}, "concurrency": 5}`)
	all := b.Mesh().ProxyConfigs
	const annotation = `
concurrency: 4
tracing: {sampling: 50}
proxyMetadata: {D: annotation, E: annotation}
runtimeValues: {two: annotation}
proxyHeaders: {server: {value: annotation}}
statusPort: 0
`
	const written = `"tracing": {"sampling": 50}, "runtimeValues": {"two": "annotation"}, "proxyHeaders": {"server": {"value": "annotation"}, "requestId": {"disabled": true}}`
	const unwritten = `"tracing": {"sampling": 10, "maxPathTagLength": 99, "zipkin": {"address": "zipkin:9411"}}, "runtimeValues": {"one": "mesh", "two": "mesh"},
		"proxyHeaders": {"server": {"value": "mesh"}, "requestId": {"disabled": true}, "preserveHttp1HeaderCase": true}, "statusPort": 15999`
	for _, c := range []struct{ name, ns, app, annotation, want string }{
		{"the mesh's and the root namespace's", "other", "web", "", `{"concurrency": 2, "proxyMetadata": {"A": "mesh", "B": "root", "C": "root", "D": "root", "E": "root"},
			"image": {"imageType": "debug"}, ` + unwritten + `}`},
		{"of the namespace, the older one", "shop", "x", "", `{"concurrency": 3, "proxyMetadata": {"A": "mesh", "B": "root", "C": "namespace", "D": "namespace", "E": "namespace"},
			"image": {"imageType": "debug"}, ` + unwritten + `}`},
		{"the annotation", "shop", "x", annotation, `{"concurrency": 4, "proxyMetadata": {"A": "mesh", "B": "root", "C": "namespace", "D": "annotation", "E": "annotation"},
			"image": {"imageType": "debug"}, ` + written + `}`},
		{"that of the workload, beside the annotation", "shop", "web", annotation, `{"concurrency": 4, "proxyMetadata": {"A": "mesh", "B": "root", "C": "namespace", "D": "annotation", "E": "workload"},
			"image": {"imageType": "distroless"}, ` + written + `}`},
		{"that of the workload, against the annotation", "shop", "db", annotation, `{"concurrency": 5, "proxyMetadata": {"A": "mesh", "B": "root", "C": "namespace", "D": "annotation", "E": "annotation"},
			"image": {"imageType": "debug"}, ` + written + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			notes := map[string]string{}
			if c.annotation != "" {
				notes["proxy.istio.io/config"] = c.annotation
			}
			got, err := config.EffectiveProxyConfig(mc.GetDefaultConfig(), all, "istio-system", c.ns, map[string]string{"app": c.app}, notes)
			if err != nil {
				t.Fatal(err)
			}
			want := &meshconfig.ProxyConfig{}
			if err := protojson.Unmarshal([]byte(c.want), want); err != nil {
				t.Fatal(err)
			}
			some := &meshconfig.ProxyConfig{ // what the case is about
				Concurrency: got.Concurrency, ProxyMetadata: got.ProxyMetadata, Image: got.Image, Tracing: got.Tracing,
				RuntimeValues: got.RuntimeValues, ProxyHeaders: got.ProxyHeaders, StatusPort: got.StatusPort,
			}
			if d := cmp.Diff(want, some, protocmp.Transform()); d != "" {
				t.Error(d)
			}
		})
	}
	if again, _, _ := config.ParseMeshConfig(""); again.GetDefaultConfig().GetStatusPort() != 15020 || proto.Equal(again.GetDefaultConfig(), mc.GetDefaultConfig()) {
		t.Error("the default was changed")
	}
}
