package judge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// workloads are those of every configuration.
var workloads = []struct{ app, version, ns string }{
	{"one", "v1", "a"}, {"one", "v2", "a"}, {"two", "v1", "a"}, {"two", "v2", "a"}, {"three", "v1", "b"},
}

// base is what all configurations have in common.
var base = func() string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, w := range workloads {
		if !seen[w.app] {
			seen[w.app] = true
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec:\n  selector: {app: %s}\n  ports: [{name: http, port: 80, targetPort: %d}, {name: tcp, port: 9000, targetPort: %d}, {name: tls, port: 9443, targetPort: %d}]\n", w.app, w.ns, w.app, appPort, rawPort, rawPort)
		}
		fmt.Fprintf(&b, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s-%[2]s, namespace: %[3]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, version: %[2]s}}
    spec: {containers: [{name: app, image: example.com/app:1}]}
`, w.app, w.version, w.ns)
	}
	b.WriteString(`---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: a}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
  - {port: {number: 9443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one, namespace: a}
spec: {host: one, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v9, labels: {version: v9}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: two, namespace: a}
spec: {host: two, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry, namespace: a}
spec:
  hosts: [entry.test, "*.wild.test"]
  resolution: STATIC
  workloadSelector: {labels: {app: two}}
  ports: [{number: 80, targetPort: ` + fmt.Sprint(appPort) + `, name: http, protocol: HTTP}]
---
`)
	return b.String()
}()

// meshConfig is the mesh's settings, with one of the ways to normalize paths;
// the default if empty.
func meshConfig(normalization string) object {
	mesh := "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
	if normalization != "" {
		mesh += "\npathNormalization: {normalization: " + normalization + "}"
	}
	return object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "istio", "namespace": "istio-system"}, "data": object{"mesh": mesh}}
}

// inMesh adds settings of the mesh, and which services the sidecar knows.
func (d dice) inMesh(objects []object) []object {
	if d.chance(70) {
		objects = append(objects, meshConfig(d.one("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")))
	}
	if d.chance(15) {
		objects = append(objects, network("Sidecar", "a", "reach", object{"egress": []any{object{"hosts": d.some("./*", "b/*", "*/two.a.svc.cluster.local", "*/*.wild.test", "*/x.test", "./entry.test")}}}))
	}
	return objects
}

// markers tells which configuration is in effect; its arguments are numbers.
const markers = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: marker, namespace: a}
spec:
  hosts: [marker.judge.test]
  http: [{directResponse: {status: 200, body: {string: "config %d"}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: marker-gateway, namespace: a}
spec:
  hosts: [marker.judge.test]
  gateways: [gw]
  http: [{directResponse: {status: 200, body: {string: "config %d"}}}]
`

// object is one VirtualService in the making; a tree of JSON values, so that
// shrinking can take any part out of it.
type object = map[string]any

// dice makes up configurations and requests from small vocabularies, so that
// matches are often met and often just missed.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 7))} }

func (d dice) one(list ...string) string { return list[d.IntN(len(list))] }

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

var hosts = []string{
	"one", "two", "three.b", "one.a.svc.cluster.local", "v.test", "w.v.test", "*.v.test", "*.test", "x.test", "xx.test", "entry.test", "*.wild.test", "w.wild.test",
}

// configuration is a set of VirtualServices, on the mesh or a gateway.
func (d dice) configuration() []object {
	var out []object
	for i := range 1 + d.IntN(3) {
		spec := object{"hosts": []any{d.one(hosts...)}}
		if d.chance(40) {
			h := d.one(hosts...)
			if h != spec["hosts"].([]any)[0] {
				spec["hosts"] = append(spec["hosts"].([]any), h)
			}
		}
		switch d.IntN(3) {
		case 0:
			spec["gateways"] = []any{"gw"}
			if d.chance(20) {
				spec["hosts"] = []any{"*"}
			}
		case 1:
			spec["gateways"] = []any{"gw", "mesh"}
		}
		var rules []any
		for n := range 1 + d.IntN(5) {
			rules = append(rules, d.rule(fmt.Sprintf("r%d", n)))
		}
		spec["http"] = rules
		out = append(out, object{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
			"metadata": object{"name": fmt.Sprintf("vs-%d", i), "namespace": "a"}, "spec": spec,
		})
	}
	return out
}

func (d dice) rule(name string) object {
	r := object{"name": name}
	if d.chance(85) {
		var matches []any
		for range 1 + d.IntN(2) {
			matches = append(matches, d.match())
		}
		r["match"] = matches
	}
	switch n := d.IntN(100); {
	case n < 14:
		r["redirect"] = d.redirect()
	case n < 24:
		r["directResponse"] = object{"status": 200 + d.IntN(300), "body": d.body(name)}
	default:
		d.forward(r)
	}
	if d.chance(30) {
		r["headers"] = d.headers()
	}
	if d.chance(12) {
		r["corsPolicy"] = object{
			"allowOrigins":        []any{d.text("http://ok.test", "http://ok")},
			"allowMethods":        []any{"GET"},
			"unmatchedPreflights": d.one("FORWARD", "IGNORE"),
		}
	}
	return r
}

func (d dice) body(name string) object {
	if d.chance(20) {
		return object{"bytes": "aGVsbG8="}
	}
	return object{"string": d.one("", "hello", name)}
}

func (d dice) destination() object {
	to := object{"host": d.one("one", "one", "two", "two", "three.b.svc.cluster.local", "nowhere", "entry.test", "w.wild.test")}
	if d.chance(60) && (to["host"] == "one" || to["host"] == "two") {
		to["subset"] = d.one("v1", "v2", "v2", "v1", "v9", "v8")
	}
	return to
}

func (d dice) forward(r object) {
	var list []any
	n := 1 + d.IntN(3)
	for i := range n {
		item := object{"destination": d.destination()}
		if n > 1 {
			item["weight"] = []int{0, 1, 20, 50, 100}[d.IntN(5)]
			if i == 0 {
				item["weight"] = 30
			}
		}
		if d.chance(15) {
			item["headers"] = d.headers()
		}
		list = append(list, item)
	}
	r["route"] = list
	switch n := d.IntN(100); {
	case n < 20:
		r["rewrite"] = object{"uri": d.one("/", "/new", "/a/b/c", "/new/")}
	case n < 30:
		r["rewrite"] = object{"authority": d.one("other.test", "one.a")}
	case n < 40:
		r["rewrite"] = object{"uriRegexRewrite": object{"match": d.one(`^/a(.*)$`, `/b`, `([a-z]+)/([a-z]+)`), "rewrite": d.one(`/z\1`, `/x`, `\0`)}}
	}
	if d.chance(15) {
		abort := object{"httpStatus": 400 + d.IntN(150), "percentage": object{"value": []int{0, 100, 100}[d.IntN(3)]}}
		if d.chance(40) {
			delete(abort, "httpStatus")
			abort["grpcStatus"] = d.one("UNAVAILABLE", "NOT_FOUND", "PERMISSION_DENIED")
		}
		r["fault"] = object{"abort": abort}
	}
	if d.chance(10) {
		r["mirror"] = object{"host": d.one("one", "two")}
	}
	if d.chance(20) {
		r["timeout"] = d.one("5s", "0s")
	}
	if d.chance(10) {
		r["retries"] = object{"attempts": d.IntN(3)}
	}
}

func (d dice) redirect() object {
	r := object{}
	switch d.IntN(5) {
	case 4:
		r["prefixRewrite"] = d.one("/there", "/")
	case 0:
		r["uri"] = d.one("/there", "/there?z=1", "%PREFIX()%/kept")
	case 1:
		r["authority"] = "elsewhere.test"
	case 2:
		r["scheme"] = "https"
	case 3:
		r["uri"], r["authority"] = "/there", "elsewhere.test"
	}
	switch d.IntN(5) {
	case 0:
		r["port"] = []int{80, 443, 8443}[d.IntN(3)]
	case 1:
		r["derivePort"] = d.one("FROM_REQUEST_PORT", "FROM_PROTOCOL_DEFAULT")
	}
	if d.chance(50) {
		r["redirectCode"] = []int{301, 302, 303, 307, 308}[d.IntN(5)]
	}
	return r
}

func (d dice) headers() object {
	side := func() object {
		h := object{}
		if d.chance(60) {
			h["set"] = object{d.one("x-s", "x-b", "x-a"): d.one("1", "set", "100%%")}
		}
		if d.chance(40) {
			h["add"] = object{d.one("x-d", "x-b"): d.one("2", "added")}
		}
		if d.chance(30) {
			h["remove"] = []any{d.one("x-a", "x-b", "x-upstream2")}
		}
		return h
	}
	out := object{"request": side()}
	if d.chance(30) {
		out["response"] = side()
	}
	return out
}

// text is a StringMatch that one of the words may meet.
func (d dice) text(words ...string) object {
	w := d.one(words...)
	switch d.IntN(3) {
	case 0:
		return object{"exact": w}
	case 1:
		return object{"prefix": w}
	}
	return object{"regex": w + d.one("", ".*", "[0-9]?")}
}

var paths = []string{"/", "/a", "/a/b", "/a/", "/A", "/ab", "/b", "/b/a", "/api/v1"}

// oddPaths are those that normalization may change.
var oddPaths = []string{
	"/a/../b", "//a", "/a//b", "/%61", "/a%2Fb", "/a/./b", "/a%2f%2fb", "/a/%2e%2E/b", "/a/..%2Fb", "/%5Ca", "/a%5c..%5cb",
	"/../b", "/a/..", "/a/b/../..//A", "//", "/a//../b", "/a/.", "/a/...", "/%2F%2Fa", "/%C3%A4", "/%7Ea/../a", "/a/b/?q=/../1",
}

// rawPaths are those that stand in no URL, and that the servers here take.
var rawPaths = []string{"/a#b", `/a\b`, `/a\..\b`}

// spelled is a host as some clients write it.
func (d dice) spelled(host string) string {
	switch d.IntN(4) {
	case 0:
		return strings.ToUpper(host)
	case 1:
		return host + "."
	case 2:
		return host + d.one(":80", ":8080", ":081", ":")
	}
	return host + ".:80"
}

func (d dice) match() object {
	m := object{}
	if d.chance(65) {
		m["uri"] = d.text(paths...)
		if d.chance(20) {
			m["ignoreUriCase"] = true
		}
	}
	if d.chance(35) {
		m["headers"] = object{d.one("x-a", "x-b", "X-A"): d.headerText()}
	}
	if d.chance(20) {
		m["withoutHeaders"] = object{d.one("x-a", "x-b"): d.headerText()}
	}
	if d.chance(20) {
		m["queryParams"] = object{d.one("q", "r"): d.headerText()}
	}
	if d.chance(15) {
		m["method"] = d.text("GET", "POST")
	}
	if d.chance(10) {
		m["authority"] = d.text("one", "v.test", "two")
	}
	if d.chance(5) {
		m["scheme"] = d.text("http", "https")
	}
	if d.chance(10) {
		m["port"] = []int{80, 81}[d.IntN(2)]
	}
	if d.chance(10) {
		m["gateways"] = []any{d.one("gw", "mesh")}
	}
	if d.chance(10) {
		m["sourceLabels"] = object{"app": d.one("client", "other")}
	}
	if d.chance(5) {
		m["sourceNamespace"] = d.one("a", "b")
	}
	if len(m) == 0 {
		m["uri"] = object{"prefix": "/"}
	}
	return m
}

func (d dice) headerText() any {
	switch d.IntN(6) {
	case 0:
		return object{}
	case 1:
		return object{"regex": "*"}
	}
	return d.text("1", "2", "one", "")
}

// request makes up a request to a side, mostly to a host of the configuration.
func (d dice) request(objects []object) *asked {
	h := &simulate.HTTP{
		Method: d.one("GET", "GET", "GET", "POST", "OPTIONS", "HEAD"), Scheme: "http",
		Authority: d.one("one", "two", "three.b", "one.a", "ONE.a", "one:80", "v.test", "w.v.test", "a.b.v.test", "x.test", "xx.test", "unknown", "one.a.svc.cluster.local"),
		Path:      d.one(slices.Concat(oddPaths, rawPaths, []string{"/a;x=1", "/api/v1/x", "/A/b"}, paths)...),
	}
	if spec, _ := objects[d.IntN(len(objects))]["spec"].(object); spec["hosts"] != nil && d.chance(75) {
		hosts := spec["hosts"].([]any)
		host := hosts[d.IntN(len(hosts))].(string)
		h.Authority = strings.Replace(host, "*", d.one("x", "a.b", "w"), 1)
	}
	if d.chance(20) {
		h.Authority = d.spelled(h.Authority)
	}
	if d.chance(40) {
		h.Path += "?" + d.one("q=1", "q", "q=one&r=2", "r=1&q=2", "x=1", "q=1&q=2", "q=", "q=%31")
	}
	for _, name := range []string{"x-a", "X-B"} {
		if d.chance(50) {
			h.Header = append(h.Header, simulate.Field{Name: name, Value: d.one("1", "2", "one", "one1", "")})
			if d.chance(10) {
				h.Header = append(h.Header, simulate.Field{Name: name, Value: "2"})
			}
		}
	}
	if d.chance(15) {
		h.Header = append(h.Header, simulate.Field{Name: "origin", Value: d.one("http://ok.test", "http://bad.test")})
		if d.chance(60) {
			h.Header = append(h.Header, simulate.Field{Name: "access-control-request-method", Value: "GET"})
		}
	}
	return &asked{Side: d.one("outbound", "outbound", "gateway"), HTTP: h}
}

func text(objects []object) string { return texts(sparingMarkers(objects)) }
