package kube_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// life is one object's: made, changed, and what shows it in the Mesh.
type life struct {
	kind           string
	first, changed string
	// shows returns what of the object the Mesh says, "" if it has none.
	shows                  func(*config.Mesh) string
	wantFirst, wantChanged string
}

const lifeNS = "life"

// TestEveryKind follows an object of each kind from its making to its end.
func TestEveryKind(t *testing.T) {
	s, c := cluster(t)
	w := watch(t, s.Config())
	w.synced(t)
	for _, l := range append(coreLives(), istioLives()...) {
		t.Run(l.kind, func(t *testing.T) {
			for _, step := range []struct{ text, want string }{{l.first, l.wantFirst}, {l.changed, l.wantChanged}} {
				apply(t, c, step.text)
				w.until(t, step.want, func(m *config.Mesh) bool { return l.shows(m) == step.want })
			}
			c.Delete(t, l.first)
			w.until(t, "its end", func(m *config.Mesh) bool { return l.shows(m) == "" })
		})
	}
}

func coreLives() []life {
	endpoints := func(m *config.Mesh) string {
		e, ok := m.Endpoints.Get(lifeNS, "plain.life.svc.cluster.local")
		if !ok || len(e.ByPort["http"]) == 0 {
			return ""
		}
		return e.ByPort["http"][0].Address
	}
	return []life{
		{"Namespace",
			`{apiVersion: v1, kind: Namespace, metadata: {name: its, labels: {team: a}}}`,
			`{apiVersion: v1, kind: Namespace, metadata: {name: its, labels: {team: b}}}`,
			func(m *config.Mesh) string {
				if n, ok := m.Namespaces.Get("", "its"); ok {
					return n.Labels["team"]
				}
				return ""
			}, "a", "b"},
		{"Service",
			`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: life}, spec: {ports: [{name: http, port: 80}]}}`,
			`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: life}, spec: {ports: [{name: grpc, port: 80}]}}`,
			func(m *config.Mesh) string {
				if s, ok := m.Services.Get(lifeNS, "web.life.svc.cluster.local"); ok {
					return string(s.Ports[0].Protocol)
				}
				return ""
			}, "HTTP", "GRPC"},
		{"EndpointSlice",
			slice("10.0.0.1"), slice("10.0.0.2"), endpoints, "10.0.0.1", "10.0.0.2"},
		{"Pod",
			pod("10.0.1.1"), pod("10.0.1.2"),
			func(m *config.Mesh) string {
				if p, ok := m.Workloads.Get(lifeNS, "a"); ok && len(p.IPs) == 1 {
					return p.IPs[0]
				}
				return ""
			}, "10.0.1.1", "10.0.1.2"},
		{"Secret",
			`{apiVersion: v1, kind: Secret, metadata: {name: cert, namespace: life}, stringData: {cert: one, key: k, other: x}}`,
			`{apiVersion: v1, kind: Secret, metadata: {name: cert, namespace: life}, stringData: {cert: two, key: k}}`,
			func(m *config.Mesh) string {
				if s, ok := m.Secrets.Get(lifeNS, "cert"); ok {
					return string(s.Data["cert"]) + string(s.Data["other"])
				}
				return ""
			}, "one", "two"},
		{"ConfigMap",
			`{apiVersion: v1, kind: ConfigMap, metadata: {name: roots, namespace: life}, data: {ca.crt: one}}`,
			`{apiVersion: v1, kind: ConfigMap, metadata: {name: roots, namespace: life}, data: {ca.crt: two, page: x}}`,
			func(m *config.Mesh) string {
				if c, ok := m.ConfigMaps.Get(lifeNS, "roots"); ok {
					return c.Data["ca.crt"] + c.Data["page"]
				}
				return ""
			}, "one", "two"},
	}
}

func slice(ip string) string {
	return `
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: life}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: plain-1, namespace: life, labels: {kubernetes.io/service-name: plain}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [` + ip + `], conditions: {ready: true}}]
`
}

func pod(ip string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: life, labels: {app: a}}
spec: {containers: [{name: a, image: a}]}
status: {phase: Running, podIP: ` + ip + `, podIPs: [{ip: ` + ip + `}], conditions: [{type: Ready, status: "True"}]}
`
}

// istioLives makes an object of each of Istio's kinds with the word "first",
// then "changed", in its spec.
func istioLives() []life {
	return []life{
		istio("extensions.istio.io/v1alpha1", "TrafficExtension", `{lua: {inlineCode: "-- WORD"}}`,
			func(m *config.Mesh) config.Index[*config.TrafficExtension] { return m.TrafficExtensions }),
		istio("extensions.istio.io/v1alpha1", "WasmPlugin", `{url: oci://x/WORD}`,
			func(m *config.Mesh) config.Index[*config.WasmPlugin] { return m.WasmPlugins }),
		istio("networking.istio.io/v1", "DestinationRule", `{host: WORD}`,
			func(m *config.Mesh) config.Index[*config.DestinationRule] { return m.DestinationRules }),
		istio("networking.istio.io/v1alpha3", "EnvoyFilter", `{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {name: WORD}}}]}`,
			func(m *config.Mesh) config.Index[*config.EnvoyFilter] { return m.EnvoyFilters }),
		istio("networking.istio.io/v1beta1", "Gateway", `{servers: [{hosts: [WORD.example.com], port: {number: 80, name: http, protocol: HTTP}}]}`,
			func(m *config.Mesh) config.Index[*config.Gateway] { return m.Gateways }),
		istio("networking.istio.io/v1beta1", "ProxyConfig", `{environmentVariables: {A: WORD}}`,
			func(m *config.Mesh) config.Index[*config.ProxyConfig] { return m.ProxyConfigs }),
		istio("networking.istio.io/v1", "ServiceEntry", `{hosts: [WORD.example.com], ports: [{number: 80, name: http}], resolution: DNS}`,
			func(m *config.Mesh) config.Index[*config.ServiceEntry] { return m.ServiceEntries }),
		istio("networking.istio.io/v1", "Sidecar", `{egress: [{hosts: [./WORD]}]}`,
			func(m *config.Mesh) config.Index[*config.SidecarScope] { return m.Sidecars }),
		istio("networking.istio.io/v1alpha3", "VirtualService", `{hosts: [WORD], http: [{route: [{destination: {host: a}}]}]}`,
			func(m *config.Mesh) config.Index[*config.VirtualService] { return m.VirtualServices }),
		istio("networking.istio.io/v1", "WorkloadEntry", `{address: 10.0.0.1, serviceAccount: WORD}`,
			func(m *config.Mesh) config.Index[*config.WorkloadEntry] { return m.WorkloadEntries }),
		istio("networking.istio.io/v1", "WorkloadGroup", `{template: {serviceAccount: WORD}}`,
			func(m *config.Mesh) config.Index[*config.WorkloadGroup] { return m.WorkloadGroups }),
		istio("security.istio.io/v1", "AuthorizationPolicy", `{selector: {matchLabels: {app: WORD}}}`,
			func(m *config.Mesh) config.Index[*config.AuthorizationPolicy] { return m.AuthorizationPolicies }),
		istio("security.istio.io/v1", "PeerAuthentication", `{selector: {matchLabels: {app: WORD}}}`,
			func(m *config.Mesh) config.Index[*config.PeerAuthentication] { return m.PeerAuthentications }),
		istio("security.istio.io/v1beta1", "RequestAuthentication", `{jwtRules: [{issuer: WORD, jwksUri: "https://x"}]}`,
			func(m *config.Mesh) config.Index[*config.RequestAuthentication] { return m.RequestAuthentications }),
		istio("telemetry.istio.io/v1", "Telemetry", `{selector: {matchLabels: {app: WORD}}}`,
			func(m *config.Mesh) config.Index[*config.Telemetry] { return m.Telemetries }),
	}
}

func istio[T proto.Message](version, kind, spec string, index func(*config.Mesh) config.Index[*config.Object[T]]) life {
	text := func(word string) string {
		return "{apiVersion: " + version + ", kind: " + kind + ", metadata: {name: it, namespace: life}, spec: " +
			strings.ReplaceAll(spec, "WORD", word) + "}"
	}
	shows := func(m *config.Mesh) string {
		o, ok := index(m).Get(lifeNS, "it")
		if !ok {
			return ""
		}
		js, err := protojson.Marshal(o.Spec)
		for _, word := range []string{"first", "changed"} {
			if err == nil && strings.Contains(string(js), word) {
				return word
			}
		}
		return string(js)
	}
	return life{kind, text("first"), text("changed"), shows, "first", "changed"}
}

// TestEveryKindIsTested holds the table above to the kinds that there are.
func TestEveryKindIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, l := range istioLives() {
		tested[l.kind] = true
	}
	for _, k := range discovery.Kinds() {
		if !tested[k.Kind] {
			t.Errorf("no test makes a %s", k.Kind)
		}
	}
}
