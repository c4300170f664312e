package inject

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// functions are what templates may call: Sprig's, and over them those that
// Istio's injector has, with their arguments in Istio's order.
func functions() template.FuncMap {
	all := sprig.TxtFuncMap()
	for name, f := range map[string]any{
		// Annotations, labels and maps of strings.
		"annotation": annotationOr,
		"isset":      func(m map[string]string, key string) bool { _, ok := m[key]; return ok },
		"omit":       without,
		"strdict":    stringMap,
		"mergeMaps":  mergeMaps,
		"toJsonMap":  func(maps ...map[string]string) string { return toJSON(mergeMaps(maps...)) },
		// Text and forms of data.
		"valueOrDefault": valueOrDefault,
		"toLower":        strings.ToLower,
		"contains":       func(part, text string) bool { return strings.Contains(text, part) },
		"directory":      func(file string) string { dir, _ := path.Split(file); return dir },
		"indent":         indent,
		"toYaml":         toYAML,
		"toJSON":         func(m map[string]string) string { return toJSON(m) },
		"structToJSON":   structToJSON,
		"fromJSON":       fromJSON,
		"protoToJSON":    protoToJSON,
		"formatDuration": func(d *durationpb.Duration) string { return d.AsDuration().String() },
		"omitNil":        omitNil,
		"env":            environment,
		// Ports, networks and interfaces.
		"excludeInboundPort":  excludeInboundPort,
		"includeInboundPorts": includeInboundPorts,
		"applicationPorts":    applicationPorts,
		"kubevirtInterfaces":  func(s string) string { return s },
		"excludeInterfaces":   func(s string) string { return s },
		"appendMultusNetwork": appendMultusNetwork,
		// Telemetry.
		"otelResourceAttributes": otelResourceAttributes,
		// Of our own templates.
		"podPorts":      podPorts,
		"appContainers": appContainers,
		"omitEmpty":     omitEmpty,
	} {
		all[name] = f
	}
	return all
}

func annotationOr(meta metav1.ObjectMeta, name string, otherwise any) string {
	if v, ok := meta.Annotations[name]; ok {
		return v
	}
	return fmt.Sprint(otherwise)
}

func without(m map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if !slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out
}

func stringMap(pairs ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = ""
		if i+1 < len(pairs) {
			out[pairs[i]] = pairs[i+1]
		}
	}
	return out
}

func mergeMaps(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func valueOrDefault(v, otherwise any) any {
	if v == nil || v == "" {
		return otherwise
	}
	return v
}

// indent indents every line but the first.
func indent(spaces int, text string) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", max(0, spaces)))
}

func toYAML(v any) (string, error) {
	b, err := yaml.Marshal(v)
	return string(b), err
}

func toJSON(m map[string]string) string {
	if m == nil {
		return "{}"
	}
	b, _ := json.Marshal(m) // a map of strings always has a JSON form
	return string(b)
}

func structToJSON(v any) (string, error) {
	if v == nil {
		return "{}", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func fromJSON(text string) (v any, err error) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("%q is no JSON: %w", text, err)
	}
	return v, nil
}

// protoToJSON gives a ProxyConfig without what is a proxy's default anyway:
// it stands in every pod.
func protoToJSON(m proto.Message) (string, error) {
	if pc, ok := m.(*meshconfig.ProxyConfig); ok && pc != nil {
		m = withoutDefaults(pc)
	}
	if m == nil || !m.ProtoReflect().IsValid() {
		return "{}", nil
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		return "", err
	}
	return compact(b)
}

// compact makes the JSON of one message always the same text: protojson
// varies its spaces.
func compact(b []byte) (string, error) {
	var raw json.RawMessage = b
	out, err := json.Marshal(raw)
	return string(out), err
}

func withoutDefaults(pc *meshconfig.ProxyConfig) *meshconfig.ProxyConfig {
	out := proto.Clone(pc).(*meshconfig.ProxyConfig)
	defaults := config.DefaultMeshConfig().GetDefaultConfig().ProtoReflect()
	m := out.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if m.Has(fd) && defaults.Has(fd) && m.Get(fd).Equal(defaults.Get(fd)) {
			m.Clear(fd)
		}
	}
	return out
}

// omitNil drops nulls, and what is empty without them, from JSON values.
func omitNil(v any) any { return pruned(v, func(v any) bool { return v == nil }) }

// omitEmpty drops empty strings, and what is empty without them.
func omitEmpty(v any) any { return pruned(v, func(v any) bool { return v == nil || v == "" }) }

func pruned(v any, empty func(any) bool) any {
	if empty(v) {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if e = pruned(e, empty); e != nil {
				out[k] = e
			}
		}
		if len(out) == 0 && len(v) > 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			if e = pruned(e, empty); e != nil {
				out = append(out, e)
			}
		}
		if len(out) == 0 && len(v) > 0 {
			return nil
		}
		return out
	}
	return v
}

// environment reads a variable of the control plane's own.
func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// excludeInboundPort adds a port to a list of ports, unless it is 0 or there.
func excludeInboundPort(port any, ports string) string {
	add := strings.TrimSpace(fmt.Sprint(port))
	if add == "" || add == "0" {
		return ports
	}
	var out []string
	for _, p := range strings.Split(ports, ",") {
		switch p = strings.TrimSpace(p); p {
		case "":
		case add:
			return ports
		default:
			out = append(out, p)
		}
	}
	return strings.Join(append(out, add), ",")
}

func includeInboundPorts(containers []corev1.Container) string {
	return tcpPorts(containers, func(corev1.Container) bool { return true })
}

func applicationPorts(containers []corev1.Container) string {
	return tcpPorts(containers, func(c corev1.Container) bool { return c.Name != proxyContainer })
}

func tcpPorts(containers []corev1.Container, which func(corev1.Container) bool) string {
	var out []string
	for _, c := range containers {
		for _, p := range c.Ports {
			if which(c) && p.Protocol != corev1.ProtocolUDP && p.Protocol != corev1.ProtocolSCTP {
				out = append(out, strconv.Itoa(int(p.ContainerPort)))
			}
		}
	}
	return strings.Join(out, ",")
}

// podPorts is what the agent expects in ISTIO_META_POD_PORTS.
func podPorts(containers []corev1.Container) (string, error) {
	ports := []corev1.ContainerPort{}
	for _, c := range containers {
		ports = append(ports, c.Ports...)
	}
	b, err := json.Marshal(ports)
	return string(b), err
}

// appContainers are the names of a pod's containers but for the proxy.
func appContainers(containers []corev1.Container) []string {
	out := []string{}
	for _, c := range containers {
		if c.Name != proxyContainer {
			out = append(out, c.Name)
		}
	}
	return out
}

// appendMultusNetwork adds a network to the annotation of the Multus CNI,
// which is a comma-separated list or JSON.
func appendMultusNetwork(networks, add string) (string, error) {
	if networks == "" {
		return add, nil
	}
	if !strings.HasPrefix(strings.TrimSpace(networks), "[") {
		for _, n := range strings.Split(networks, ",") {
			if strings.TrimSpace(n) == add {
				return networks, nil
			}
		}
		return networks + ", " + add, nil
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(networks), &list); err != nil {
		return "", fmt.Errorf("annotation k8s.v1.cni.cncf.io/networks is %q, which is no JSON: %w", networks, err)
	}
	next := map[string]any{"name": add}
	if ns, name, ok := strings.Cut(add, "/"); ok {
		next = map[string]any{"name": name, "namespace": ns}
	}
	for _, n := range list {
		if n["name"] == next["name"] && n["namespace"] == next["namespace"] {
			return networks, nil
		}
	}
	b, err := json.Marshal(append(list, next))
	return string(b), err
}
