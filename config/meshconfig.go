package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
)

// ParseMeshConfig reads the YAML of the ConfigMap istio's key "mesh" over the
// defaults. A field that is present replaces its default as a whole, also
// with a zero value; defaultConfig alone is read over its default as
// OverlayProxyConfig does. The paths of fields that MeshConfig does
// not have are returned in unknown; they have no effect, since the ConfigMap
// may have been written for another version.
func ParseMeshConfig(text string) (mc *meshconfig.MeshConfig, unknown []string, err error) {
	mc = DefaultMeshConfig()
	var over meshconfig.MeshConfig
	raw, unknown, err := parseOver(text, &over)
	if err != nil {
		return nil, nil, fmt.Errorf("mesh config: %w", err)
	}
	below := mc.GetDefaultConfig()
	overlay(mc.ProtoReflect(), over.ProtoReflect(), raw)
	mc.DefaultConfig = below
	if inner, ok := raw["defaultConfig"].(map[string]any); ok {
		overlayProxyConfig(below, over.GetDefaultConfig(), inner)
	} else if inner, ok := raw["default_config"].(map[string]any); ok {
		overlayProxyConfig(below, over.GetDefaultConfig(), inner)
	}
	if mc.GetRootNamespace() == "" {
		mc.RootNamespace = DefaultMeshConfig().GetRootNamespace()
	}
	return mc, unknown, nil
}

// OverlayProxyConfig reads YAML, as annotation proxy.istio.io/config has it,
// over a ProxyConfig, which stays as it is. It is to a workload what
// defaultConfig is to the mesh: a field that is present replaces the one below
// it as a whole, messages such as tracing too, also with a zero value. Only
// proxyMetadata gains entries, and proxyHeaders keeps some of what it does not
// say.
func OverlayProxyConfig(base *meshconfig.ProxyConfig, text string) (pc *meshconfig.ProxyConfig, unknown []string, err error) {
	pc = proto.Clone(base).(*meshconfig.ProxyConfig)
	var over meshconfig.ProxyConfig
	raw, unknown, err := parseOver(text, &over)
	if err != nil {
		return nil, nil, fmt.Errorf("proxy config: %w", err)
	}
	overlayProxyConfig(pc, &over, raw)
	return pc, unknown, nil
}

func overlayProxyConfig(base, over *meshconfig.ProxyConfig, raw map[string]any) {
	below, headers := base.GetProxyMetadata(), base.GetProxyHeaders()
	overlay(base.ProtoReflect(), over.ProtoReflect(), raw)
	if len(below) > 0 {
		all := maps.Clone(below)
		maps.Copy(all, over.GetProxyMetadata())
		base.ProxyMetadata = all
	}
	keepHeaders(base.GetProxyHeaders(), headers)
}

// keepHeaders fills in what proxyHeaders does not say by what is below it:
// these fields, and no others, as istiod does.
func keepHeaders(h, below *meshconfig.ProxyConfig_ProxyHeaders) {
	if h == nil || below == nil {
		return
	}
	h.ForwardedClientCert = cmp.Or(h.ForwardedClientCert, below.ForwardedClientCert)
	h.RequestId = cmp.Or(h.RequestId, below.RequestId)
	h.AttemptCount = cmp.Or(h.AttemptCount, below.AttemptCount)
	h.Server = cmp.Or(h.Server, below.Server)
	h.EnvoyDebugHeaders = cmp.Or(h.EnvoyDebugHeaders, below.EnvoyDebugHeaders)
}

// parseOver reads YAML into an empty message. raw is its JSON form, which
// alone tells a zero value from an absent one, without the fields that the
// message does not have: these are returned in unknown.
func parseOver(text string, over proto.Message) (raw map[string]any, unknown []string, err error) {
	js, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(js, &raw); err != nil {
		return nil, nil, fmt.Errorf("want a mapping: %w", err)
	}
	md := over.ProtoReflect().Descriptor()
	unknown = dropUnknown("", raw, md, nil)
	// What remains is read strictly, because a lenient reader passes over
	// unknown enum values too.
	if js, err = json.Marshal(raw); err != nil || raw == nil {
		js = []byte("{}")
	}
	if err := protojson.Unmarshal(PlainDurations(js, md), over); err != nil {
		// The library varies the space, so that nobody relies on its messages.
		return nil, nil, errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: "))
	}
	return raw, unknown, nil
}

// overlay sets those fields of base that raw names to their values in over.
// Only the JSON tells a zero value from an absent one.
func overlay(base, over protoreflect.Message, raw map[string]any) {
	for name, v := range raw {
		fd := fieldNamed(base.Descriptor(), name)
		switch {
		case fd == nil || v == nil:
		case over.Has(fd):
			base.Set(fd, over.Get(fd))
		default:
			base.Clear(fd)
		}
	}
}

func fieldNamed(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByJSONName(name); fd != nil {
		return fd
	}
	return md.Fields().ByName(protoreflect.Name(name))
}

// dropUnknown removes the fields that a message does not have from its JSON,
// and adds their paths to out.
func dropUnknown(path string, v any, md protoreflect.MessageDescriptor, out []string) []string {
	raw, ok := v.(map[string]any)
	if !ok || md.FullName().Parent() == "google.protobuf" {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		fd := fieldNamed(md, name)
		if fd == nil {
			out = append(out, path+name)
			delete(raw, name)
			continue
		}
		at := path + fd.JSONName()
		switch list, isList := raw[name].([]any); {
		case fd.IsMap():
			if entries, ok := raw[name].(map[string]any); ok && fd.MapValue().Message() != nil {
				for _, k := range slices.Sorted(maps.Keys(entries)) {
					out = dropUnknown(at+"["+k+"].", entries[k], fd.MapValue().Message(), out)
				}
			}
		case fd.Message() == nil:
		case fd.IsList() && isList:
			for i, item := range list {
				out = dropUnknown(at+"["+strconv.Itoa(i)+"].", item, fd.Message(), out)
			}
		default:
			out = dropUnknown(at+".", raw[name], fd.Message(), out)
		}
	}
	return out
}
