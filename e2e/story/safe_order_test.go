package story

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// change is objects before and after, by kind and name; an empty text is an
// object that is not there.
type change map[string][2]string

func object(group, kind, name, spec string) string {
	return "apiVersion: " + group + ".istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

func deployment(name, labels string) string {
	return deploymentOf(name, labels, "image: c, ports: [{name: web, containerPort: 8080}]")
}

func deploymentOf(name, labels, container string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + "}\nspec: {selector: {matchLabels: {app: myapp}}, template: {metadata: {labels: {" + labels + "}}, spec: {containers: [{name: c, " + container + "}]}}}\n"
}

func service(name, selector string) string { return servicePort(name, selector, "8080") }

func servicePort(name, selector, target string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {selector: {" + selector + "}, ports: [{name: http, port: 80, targetPort: " + target + "}]}\n"
}

func always(text string) [2]string { return [2]string{text, text} }

func virtual(spec string) string { return object("networking", "VirtualService", "myapp", spec) }
func rule(spec string) string    { return object("networking", "DestinationRule", "myapp", spec) }
func toMyapp(more string) string {
	return virtual("{hosts: [myapp], http: [{route: [{destination: {host: myapp" + more + "}}]}]}")
}
func subsets(list ...string) string {
	var texts []string
	for _, v := range list {
		texts = append(texts, "{name: "+v+", labels: {version: "+v+"}}")
	}
	return rule("{host: myapp, trafficPolicy: {" + eachOwn + "}, subsets: [" + strings.Join(texts, ", ") + "]}")
}

// A connection for each request: those that live on are not decided about anew.
const eachOwn = "connectionPool: {http: {maxRequestsPerConnection: 1}}"

// ordered is a change in which the order counts, or does not.
type ordered struct {
	change
	steps  string // in the order that diff --order gives; empty: any is safe
	wrong  string // an order in which requests fail; empty: real Envoys forgive it
	secure bool   // requests go through the gateway
}

var v1, v2 = always(deployment("myapp-v1", "app: myapp, version: v1")), [2]string{"", deployment("myapp-v2", "app: myapp, version: v2")}

func safeOrders(t *testing.T) map[string]ordered {
	t.Helper()
	certificate := func() string {
		c, err := pki.Root("shop.example.com", time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("type: kubernetes.io/tls\nstringData: {tls.crt: %q, tls.key: %q}\n", c.Cert, c.KeyPEM)
	}
	secret := func(name string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + ", namespace: istio-system}\n" + certificate()
	}
	gateway := func(name string) string {
		return object("networking", "Gateway", "gw", "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: "+name+"}}]}")
	}
	return map[string]ordered{
		// Who insists on mutual TLS before clients speak it, refuses them.
		"mutual TLS": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1,
				"DestinationRule/myapp":      {rule("{host: myapp, trafficPolicy: {tls: {mode: DISABLE}, " + eachOwn + "}}"), rule("{host: myapp, trafficPolicy: {" + eachOwn + "}}")},
				"PeerAuthentication/default": {"", object("security", "PeerAuthentication", "default", "{mtls: {mode: STRICT}}")},
			},
			steps: "DestinationRule/myapp PeerAuthentication/default", wrong: "PeerAuthentication/default DestinationRule/myapp",
		},
		"any": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1,
				"VirtualService/myapp": {
					virtual("{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 5s}]}"),
					virtual("{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 3s}]}"),
				},
				"AuthorizationPolicy/myapp": {"", object("security", "AuthorizationPolicy", "myapp", "{selector: {matchLabels: {app: myapp}}, rules: [{from: [{source: {namespaces: [default]}}]}]}")},
			},
		},
		"new version": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1, "Deployment/myapp-v2": v2,
				"DestinationRule/myapp": {subsets("v1"), subsets("v1", "v2")},
				"VirtualService/myapp":  {toMyapp(", subset: v1"), toMyapp(", subset: v2")},
			},
			steps: "Deployment/myapp-v2 DestinationRule/myapp VirtualService/myapp", wrong: "DestinationRule/myapp VirtualService/myapp Deployment/myapp-v2",
		},
		"version removed": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": {v1[0], ""}, "Deployment/myapp-v2": always(v2[1]),
				"DestinationRule/myapp": {subsets("v1", "v2"), subsets("v2")},
				"VirtualService/myapp":  {toMyapp(", subset: v1"), toMyapp(", subset: v2")},
			},
			steps: "VirtualService/myapp DestinationRule/myapp Deployment/myapp-v1", wrong: "Deployment/myapp-v1 VirtualService/myapp DestinationRule/myapp",
		},
		"new Service": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1,
				"Service/next": {"", service("next", "app: next")}, "Deployment/next": {"", deployment("next", "app: next, version: v1")},
				"VirtualService/myapp": {toMyapp(""), virtual("{hosts: [myapp], http: [{route: [{destination: {host: next}}]}]}")},
			},
			steps: "Service/next Deployment/next VirtualService/myapp", wrong: "Service/next VirtualService/myapp Deployment/next",
		},
		"Service renamed": {
			change: change{
				"Service/myapp": always(service("myapp", "app: front")), "Deployment/myapp-v1": v1,
				"Service/old": {service("old", "app: myapp"), ""}, "Service/next": {"", service("next", "app: myapp")},
				"VirtualService/myapp": {
					virtual("{hosts: [myapp], http: [{route: [{destination: {host: old}}]}]}"),
					virtual("{hosts: [myapp], http: [{route: [{destination: {host: next}}]}]}"),
				},
			},
			steps: "Service/next VirtualService/myapp Service/old", wrong: "Service/old Service/next VirtualService/myapp",
		},
		"selector changed": {
			change: change{
				"Service/myapp": {service("myapp", "version: v1"), service("myapp", "version: v2")}, "Deployment/myapp-v1": {v1[0], ""}, "Deployment/myapp-v2": v2,
			},
			steps: "Deployment/myapp-v2 Service/myapp Deployment/myapp-v1", wrong: "Service/myapp Deployment/myapp-v2 Deployment/myapp-v1",
		},
		"credential": {
			change: change{
				"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1,
				"VirtualService/myapp": always(virtual("{hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: myapp}}]}]}")),
				"Secret/old":           {secret("old"), ""}, "Secret/next": {"", secret("next")},
				"Gateway/gw": {gateway("old"), gateway("next")},
			},
			// A running Envoy keeps the listener and the certificate that it has, one
			// that starts in between does not have them.
			steps: "Secret/next Gateway/gw Secret/old", secure: true,
		},
	}
}

// files are a state: 0 is before, 1 after.
func (c change) files(state int) map[string]string {
	out := map[string]string{"client.yaml": client}
	for key, texts := range c {
		out[fileOf(key)] = texts[state]
	}
	return out
}

func fileOf(key string) string { return strings.ReplaceAll(key, "/", "-") + ".yaml" }

// order is what diff --order says.
func (c change) order(t *testing.T) *meshtest.Order {
	t.Helper()
	var states [2]*inputs.Bare
	var worlds [2]*simulate.World
	for i := range states {
		dir := t.TempDir()
		for name, text := range c.files(i) {
			stage.Write(t, filepath.Join(dir, name), text)
		}
		var err error
		if states[i], err = inputs.LoadBare(t.Context(), inputs.Options{Paths: []string{dir}, Validate: translate.Check}); err != nil {
			t.Fatal(err)
		}
		for _, p := range states[i].Mesh.Problems {
			t.Error(p)
		}
		worlds[i] = simulate.NewWorld(states[i].Mesh)
	}
	b := meshtest.Between{With: func(applied []config.Key) *config.Mesh { return states[0].With(states[1], applied) }}
	for _, ch := range states[0].Changed(states[1]) {
		b.Changed = append(b.Changed, meshtest.ObjectChange{Object: ch.Object, Change: ch.How})
	}
	return meshtest.SafeOrder(meshtest.Diff(worlds[0], worlds[1]), worlds[0], worlds[1], b)
}

func stepsOf(steps []meshtest.Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Object.Kind+"/"+s.Object.Name)
	}
	return strings.Join(out, " ")
}

// theatre is one mesh in which changes are made one after the other.
type theatre struct {
	*stage.Stage
	t      *testing.T
	inside *stage.Caller
	marks  int // that tell one state of the folder from another
}

// set gives the folder a state, whatever it held.
func (h *theatre) set(files map[string]string) {
	h.t.Helper()
	have, err := filepath.Glob(filepath.Join(h.Dir, "*.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(files))
	for _, path := range have {
		if name := filepath.Base(path); files[name] == "" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		h.Write(name, files[name])
	}
	for range 2 { // the first may have been read while files were written
		h.marks++
		h.Delivered(func() {
			h.Write("marker.yaml", object("networking", "VirtualService", "marker", fmt.Sprintf("{hosts: [marker-%d.test], http: [{directResponse: {status: 200}}]}", h.marks)))
		})
	}
	h.settled()
}

// settled waits until every pod is ready, those that went are gone, and every
// proxy has been told so.
func (h *theatre) settled() {
	h.t.Helper()
	plane := h.Plane()
	envoytest.Eventually(h.t, stage.Patience, func() string {
		m := plane.Store.Mesh()
		want := map[string]bool{}
		for w := range m.Workloads.All() {
			if len(w.IPs) == 0 {
				return w.Name + " is not ready"
			}
			want[w.WorkloadName()] = true
		}
		for _, w := range h.Workloads() {
			if !want[w.Name] && !strings.HasPrefix(w.Name, "istio-") {
				return w.Name + " still runs"
			}
		}
		if c := plane.Cache.Mesh(); c == nil || c.Sequence != m.Sequence {
			return "the change is not served yet"
		}
		for _, c := range plane.Server.Changes() {
			if c.Reached < c.Proxies {
				return "not every proxy has acknowledged the change"
			}
		}
		return ""
	})
}

// step applies one change and waits as its text says.
func (h *theatre) step(c change, key string) {
	h.t.Helper()
	h.Delivered(func() { h.Write(fileOf(key), c[key][1]) })
	if kind, _, _ := strings.Cut(key, "/"); kind == "Deployment" && c[key][1] != "" {
		h.settled()
	}
}

// caller sends what is to work all the time, each time on a new connection
// where the gateway's certificate counts.
func (h *theatre) caller(o *ordered) *stage.Caller {
	h.t.Helper()
	if !o.secure {
		return h.inside
	}
	envoytest.Eventually(h.t, stage.Patience, func() string {
		if _, err := h.Gateway("gw", 443); err != nil {
			return err.Error()
		}
		return ""
	})
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // whether there is one is what counts
	h.t.Cleanup(tr.CloseIdleConnections)
	return &stage.Caller{Client: &http.Client{Transport: tr, Timeout: stage.Patience}, Base: "https://" + h.At("gw", 443), Host: "shop.example.com"}
}

// load gives the folder the state before, and sends what works in it.
func (h *theatre) load(o *ordered) *steady {
	h.t.Helper()
	h.set(o.files(0))
	caller := h.caller(o)
	caller.Versions(h.t, 20, "/")
	return load(h.t, caller)
}

// succeeds makes the change in steps while requests are sent: none fails.
func (h *theatre) succeeds(o *ordered, steps []string) {
	h.t.Helper()
	l := h.load(o)
	for _, key := range steps {
		h.step(o.change, key)
		l.more(h.t, 50)
	}
	l.end()
	h.t.Logf("%s: %d requests", strings.Join(steps, ", "), l.sent)
	if n := len(l.failures); n > 0 {
		h.t.Errorf("%s: %d requests failed, the first with: %s", strings.Join(steps, ", "), n, l.failures[0])
	}
}

// fails makes the change in steps while requests are sent, until one fails
// between two of them.
func (h *theatre) fails(o *ordered, steps []string) {
	h.t.Helper()
	l := h.load(o)
	for _, key := range steps[:len(steps)-1] {
		h.step(o.change, key)
	}
	envoytest.Eventually(h.t, stage.Patience, func() string {
		if l.failed() > 0 {
			return ""
		}
		return fmt.Sprintf("in the order %s no request fails before the last step", strings.Join(steps, ", "))
	})
	l.end()
}

// TestSafeOrder makes changes step by step on real Envoys, in the order that
// diff --order gives: no request fails; and in another one: some do. Where any
// order is safe, none fails in either direction.
func TestSafeOrder(t *testing.T) {
	stage.NeedNamespaces(t)
	dir := t.TempDir()
	stage.Write(t, filepath.Join(dir, "client.yaml"), client)
	all := safeOrders(t)
	h := &theatre{Stage: stage.StartWith(t, dir, up.Options{Mode: up.Namespaces}), t: t}
	h.inside = h.Inside("client", "http://myapp")
	for name, o := range all {
		t.Run(name, func(t *testing.T) {
			h.t = t
			says := o.order(t)
			if got := stepsOf(says.Steps); says.Any != (o.steps == "") || !says.Any && got != o.steps || len(says.Stuck) > 0 {
				t.Fatalf("the order is %+v", says)
			}
			steps := strings.Fields(stepsOf(says.Steps))
			h.succeeds(&o, steps)
			if says.Any {
				slices.Reverse(steps)
				h.succeeds(&o, steps)
				return
			}
			if o.wrong != "" {
				h.fails(&o, strings.Fields(o.wrong))
			}
		})
	}
}
