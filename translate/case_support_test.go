package translate_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func newMessage(kind string) proto.Message {
	switch kind {
	case "cluster":
		return &cluster.Cluster{}
	case "listener":
		return &listener.Listener{}
	case "route":
		return &route.RouteConfiguration{}
	case "extension":
		return &core.TypedExtensionConfig{}
	case "endpoints":
		return &endpoint.ClusterLoadAssignment{}
	default:
		return &tls.Secret{}
	}
}

func toJSON(t *testing.T, m proto.Message) any {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// selectPath walks a JSON value by steps separated with dots: a key, [n] for
// an element, [key=value] for the element that has it. An empty path is the
// whole value.
func selectPath(v any, path string) (any, error) {
	for _, step := range splitPath(path) {
		if inner, ok := strings.CutPrefix(step, "["); ok {
			inner = strings.TrimSuffix(inner, "]")
			list, _ := v.([]any)
			e, err := element(list, inner)
			if err != nil {
				return nil, err
			}
			v = e
			continue
		}
		object, _ := v.(map[string]any)
		next, ok := object[step]
		if !ok {
			return nil, fmt.Errorf("absent: %s", step)
		}
		v = next
	}
	return v, nil
}

func element(list []any, which string) (any, error) {
	if key, want, ok := strings.Cut(which, "="); ok {
		for _, e := range list {
			if m, _ := e.(map[string]any); fmt.Sprint(m[key]) == want {
				return e, nil
			}
		}
		return nil, fmt.Errorf("absent: [%s]", which)
	}
	n, err := strconv.Atoi(which)
	if err != nil || n >= len(list) || n < 0 {
		return nil, fmt.Errorf("absent: [%s] of %d", which, len(list))
	}
	return list[n], nil
}

// splitPath splits at dots outside brackets.
func splitPath(path string) []string {
	var out []string
	depth, start := 0, 0
	for i, r := range path {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == '.' && depth == 0:
			out = append(out, path[start:i])
			start = i + 1
		}
	}
	if start < len(path) {
		out = append(out, path[start:])
	}
	return out
}

func lineDiff(want, got string) string {
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// proxySection is the YAML of a case's proxy.
type proxySection struct {
	Type           string            `json:"type"`
	Name           string            `json:"name"`
	Namespace      string            `json:"namespace"`
	IP             []string          `json:"ip"`
	Labels         map[string]string `json:"labels"`
	ServiceAccount string            `json:"serviceAccount"`
	Interception   string            `json:"interception"`
	Locality       string            `json:"locality"`
	Network        string            `json:"network"`
	Node           string            `json:"node"`
	Cluster        string            `json:"cluster"`
	Unprivileged   bool              `json:"unprivileged"`
	DNSCapture     bool              `json:"dnsCapture"`
	Extensions     []string          `json:"extensions"`
	Certificates   bool              `json:"certificates"`
	Generator      string            `json:"generator"`
	Modules        bool              `json:"modules"`
	Telemetry      bool              `json:"telemetry"`
	ServiceCluster string            `json:"serviceCluster"`
	Envoy          string            `json:"envoy"` // its version
	Version        string            `json:"version"`
	ProxyConfig    string            `json:"proxyConfig"` // JSON, as in metadata PROXY_CONFIG
	Local          *struct {
		Outbound string `json:"outbound"`
		App      string `json:"app"`
		PortBase uint32 `json:"portBase"`
	} `json:"local"`
}

// defaultProxy is the sidecar of pod web in namespace default.
func defaultProxy() *config.Proxy {
	return makeProxy(proxySection{})
}

func parseProxy(t *testing.T, data []byte) *config.Proxy {
	t.Helper()
	var s proxySection
	if err := yaml.UnmarshalStrict(data, &s); err != nil {
		t.Fatalf("proxy: %v", err)
	}
	return makeProxy(s)
}

func makeProxy(s proxySection) *config.Proxy {
	or := func(v, def string) string {
		if v == "" {
			return def
		}
		return v
	}
	ns, name := or(s.Namespace, "default"), or(s.Name, "web")
	p := &config.Proxy{
		Type: config.ProxyType(or(s.Type, "sidecar")), Name: name, Namespace: ns, IPs: s.IP,
		DNSDomain: ns + ".svc.cluster.local", Labels: s.Labels, ServiceAccount: or(s.ServiceAccount, "default"),
		Interception: config.Interception(or(s.Interception, "REDIRECT")), Locality: config.ParseLocality(s.Locality),
		Network: s.Network, NodeName: s.Node, Cluster: or(s.Cluster, "Kubernetes"), Workload: name,
		Unprivileged: s.Unprivileged, DNSCapture: s.DNSCapture, Extensions: s.Extensions, Certificates: s.Certificates,
		Telemetry: s.Telemetry, ServiceCluster: s.ServiceCluster, EnvoyVersion: s.Envoy,
		Generator: s.Generator, Modules: s.Modules, Raw: map[string]string{},
	}
	if len(p.IPs) == 0 {
		p.IPs = []string{"10.1.0.1"}
	}
	if s.ProxyConfig != "" {
		p.Raw["PROXY_CONFIG"] = s.ProxyConfig
	}
	if s.Version != "" {
		p.Raw["ISTIO_VERSION"] = s.Version
	}
	if s.Local != nil {
		p.Local = &config.LocalAddresses{Outbound: s.Local.Outbound, App: s.Local.App, PortBase: s.Local.PortBase}
	}
	p.ID = fmt.Sprintf("%s~%s~%s.%s~%s", p.Type, p.IPs[0], name, ns, p.DNSDomain)
	return p
}
