package translate_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// hostile is YAML of a size, a mistake that follows it, and the Problem that
// must name the mistake on its last line.
type hostile struct {
	size    int
	yaml    func(n int) string
	mistake string
	problem string
	proxy   string // that it is translated for; a sidecar by default
}

const (
	istioHead = "apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: big, namespace: default}\nspec:\n"
	patchesOf = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: big, namespace: default}\nspec:\n"
	service   = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: default}\nspec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}\n---\n"
)

// lines is a header and n lines made by f.
func lines(head string, n int, f func(i int) string) *strings.Builder {
	b := &strings.Builder{}
	b.WriteString(head)
	for i := range n {
		b.WriteString(f(i) + "\n")
	}
	return b
}

func hostileObjects() map[string]hostile {
	of := func(kind string) string { return fmt.Sprintf(istioHead, kind) }
	return map[string]hostile{
		"a thousand subsets": {
			size: 1000,
			yaml: func(n int) string {
				return lines(service+of("DestinationRule")+"  host: a\n  subsets:\n", n, func(i int) string {
					return fmt.Sprintf("  - {name: v%d, labels: {version: v%d}, trafficPolicy: {connectionPool: {tcp: {maxConnections: %d}}}}", i, i, i+1)
				}).String()
			},
			mistake: "  - {name: v0, labels: {version: v0}}\n",
			problem: `error: DestinationRule default/big: spec.subsets[1000].name: is "v0", as that of subsets[0]; subsets need names of their own (Duplicate)`,
		},
		"a megabyte of matches": {
			size: 10_000,
			yaml: func(n int) string {
				return lines(service+of("VirtualService")+"  hosts: [a]\n  http:\n", n, func(i int) string {
					return fmt.Sprintf("  - {match: [{uri: {regex: '/item/%d/[a-z]+/.*'}}], route: [{destination: {host: a}}], timeout: 1s}", i)
				}).String()
			},
			mistake: "  - {match: [{uri: {regex: '/item/[a-z'}}], route: [{destination: {host: a}}]}\n",
			problem: "error: VirtualService default/big: spec.http[10000].match[0].uri.regex: is \"/item/[a-z\": error parsing regexp: missing closing ]: `[a-z`; want RE2's syntax, see github.com/google/re2/wiki/Syntax (RegexInvalid)",
		},
		"twenty thousand hosts": {
			size: 20_000,
			yaml: func(n int) string {
				return lines(service+of("VirtualService")+"  http: [{route: [{destination: {host: a}}]}]\n  hosts:\n", n, func(i int) string {
					return fmt.Sprintf("  - host-%d.example.com", i)
				}).String()
			},
			mistake: "  - host-7.example.com\n",
			problem: `error: VirtualService default/big: spec.hosts[20000]: is "host-7.example.com", which overlaps with "host-7.example.com" before it; leave only one (HostDuplicate)`,
		},
		"a megabyte of endpoints": {
			size: 20_000,
			yaml: func(n int) string {
				return lines(of("ServiceEntry")+"  hosts: [a.example.com]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints:\n", n, func(i int) string {
					return fmt.Sprintf("  - {address: 10.%d.%d.%d, labels: {version: v%d}}", i>>16&255, i>>8&255, i&255, i)
				}).String()
			},
			mistake: "  - {address: 10.1.2.256}\n",
			problem: `error: ServiceEntry default/big: spec.endpoints[20000].address: is "10.1.2.256"; resolution STATIC wants an IP address or unix:///path, DNS takes names (AddressInvalid)`,
		},
		"two thousand servers": {
			size:  2000,
			proxy: "type: router\nlabels: {istio: ingressgateway}\n",
			yaml: func(n int) string {
				return lines(of("Gateway")+"  selector: {istio: ingressgateway}\n  servers:\n", n, func(i int) string {
					return fmt.Sprintf("  - {port: {number: 80, name: http-%d, protocol: HTTP}, hosts: [h%d.example.com]}", i, i)
				}).String()
			},
			mistake: "  - {port: {number: 80, name: http-last, protocol: HTTP}, hosts: [a/b/c]}\n",
			problem: `error: Gateway default/big: spec.servers[2000].hosts[0]: is "b/c": its part "b/c" is no DNS label (letters, digits and dashes, up to 63) (HostInvalid)`,
		},
		"ten thousand egress hosts": {
			size: 10_000,
			yaml: func(n int) string {
				return lines(service+of("Sidecar")+"  egress:\n  - hosts:\n", n, func(i int) string {
					return fmt.Sprintf("    - ns-%d/*.example-%d.com", i%100, i)
				}).String()
			},
			mistake: "    - no-slash\n",
			problem: `error: Sidecar default/big: spec.egress[0].hosts[10000]: is "no-slash"; want namespace/name, such as "./*" or "*/no-slash" (HostInvalid)`,
		},
		"a ring of delegates": {
			size: 500,
			yaml: func(n int) string {
				return lines("", n, func(i int) string {
					return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: d%d, namespace: default}\nspec: {http: [{match: [{uri: {prefix: /%d}}], delegate: {name: d%d}}]}\n---", i, i, (i+1)%n)
				}).String()
			},
			mistake: "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: root, namespace: default}\nspec: {hosts: [a.example.com], http: [{delegate: {name: d0}}]}\n",
			problem: `warning: VirtualService default/root: spec.http[0].delegate: is default/d0, which does not exist; the rule has no effect (DelegateNotFound)`,
		},
		"a thousand objects for one host": {
			size: 1000,
			yaml: func(n int) string {
				return lines(service, n, func(i int) string {
					return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%d, namespace: default}\nspec: {hosts: [a], http: [{match: [{uri: {prefix: /%d}}], route: [{destination: {host: a}}]}]}\n---", i, i)
				}).String()
			},
			mistake: "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: z, namespace: default}\nspec: {hosts: [a], http: [{route: [{destination: {host: a, subset: none}}]}]}\n",
			problem: `warning: VirtualService default/z: spec.http[0].route[0].destination.subset: is "none", but a.default.svc.cluster.local has no subsets; requests get 503 until a DestinationRule names it (SubsetNotFound)`,
		},
		"a thousand patches of one table": {
			size: 1000,
			yaml: func(n int) string {
				return lines(service+patchesOf+"  configPatches:\n", n, func(i int) string {
					return fmt.Sprintf(`  - {applyTo: HTTP_ROUTE, match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "80"}}, patch: {operation: INSERT_FIRST, value: {name: r%d, match: {path: /%d}, direct_response: {status: 204}}}}`, i, i)
				}).String()
			},
			mistake: `  - {applyTo: VIRTUAL_HOST, match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "80"}}, patch: {operation: ADD, value: {name: a, domains: [a]}}}` + "\n",
			problem: `error: EnvoyFilter default/big: spec.configPatches[1000]: would make "80" invalid: domain "a" is in two virtual hosts; the patch is left out (PatchInvalid)`,
		},
		"a thousand patches that are wrong": {
			size: 1000,
			yaml: func(n int) string {
				return lines(service+patchesOf+"  configPatches:\n", n, func(i int) string {
					return fmt.Sprintf(`  - {applyTo: VIRTUAL_HOST, match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "80"}}, patch: {operation: ADD, value: {name: v%d, domains: [A]}}}`, i)
				}).String()
			},
			mistake: `  - {applyTo: CLUSTER, patch: {operation: ADD, value: {name: a, type: [EDS]}}}` + "\n",
			problem: `error: EnvoyFilter default/big: spec.configPatches[1000].patch.value.type: is no Cluster: invalid value for enum field type: [ (ValueInvalid)`,
		},
	}
}

// TestHostileSizes holds that an object of about a megabyte is answered by the
// Problem for its one mistake, and that the memory it takes to read, check and
// translate one without grows with its size and not with the square of it.
func TestHostileSizes(t *testing.T) {
	for name, h := range hostileObjects() {
		t.Run(name, func(t *testing.T) {
			sound := h.yaml(h.size)
			whole := sound + h.mistake
			want := fmt.Sprintf("config.yaml:%d: %s", strings.Count(whole, "\n"), h.problem)
			problems, _ := translated(t, whole, h.proxy)
			if !slices.Contains(problems, want) {
				t.Errorf("no problem %q, but %d others, at last %q", want, len(problems), problems[max(0, len(problems)-1):])
			}
			problems, bytes := translated(t, sound, h.proxy)
			_, quarter := translated(t, h.yaml(h.size/4), h.proxy)
			// Four, and twice as much, since room for more is made by doubling it.
			if float64(bytes) > 8*float64(quarter) {
				t.Errorf("%d bytes allocated for all, %d for a quarter of it", bytes, quarter)
			}
			t.Logf("%d bytes of YAML, %d problems, %d bytes allocated for each", len(sound), len(problems), bytes/uint64(len(sound)))
		})
	}
}

// translated reads, checks and translates YAML for a proxy, and says how many
// bytes that allocated.
func translated(t *testing.T, yaml, proxy string) (problems []string, bytes uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := newWorld(t, &txtar.Archive{Files: []txtar.File{{Name: "config.yaml", Data: []byte(yaml)}, {Name: "proxy", Data: []byte(proxy)}}})
	for _, p := range w.problems {
		problems = append(problems, p.String())
	}
	runtime.ReadMemStats(&after)
	return problems, after.TotalAlloc - before.TotalAlloc
}
