package story

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// shopOfTwo is what the states of a change have in common: a client of a
// service of two versions.
const shopOfTwo = client + `
---
apiVersion: v1
kind: Service
metadata: {name: myapp}
spec: {selector: {app: myapp}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: myapp-v1}
spec:
  selector: {matchLabels: {app: myapp, version: v1}}
  template: {metadata: {labels: {app: myapp, version: v1}}, spec: {containers: [{name: c, image: c}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: myapp-v2}
spec:
  selector: {matchLabels: {app: myapp, version: v2}}
  template: {metadata: {labels: {app: myapp, version: v2}}, spec: {containers: [{name: c, image: c}]}}
`

// change is objects before and after, by kind; an empty text is an object that
// is not there.
type change map[string][2]string

func object(group, kind, name, spec string) string {
	return "apiVersion: " + group + ".istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// A connection for each request: those that live on are not decided about anew.
const eachOwn = "connectionPool: {http: {maxRequestsPerConnection: 1}}"

// toMutualTLS is a change in which the order counts: who insists on mutual TLS
// before clients speak it, refuses them.
var toMutualTLS = change{
	"DestinationRule": {
		object("networking", "DestinationRule", "myapp", "{host: myapp, trafficPolicy: {tls: {mode: DISABLE}, "+eachOwn+"}}"),
		object("networking", "DestinationRule", "myapp", "{host: myapp, trafficPolicy: {"+eachOwn+"}}"),
	},
	"PeerAuthentication": {"", object("security", "PeerAuthentication", "default", "{mtls: {mode: STRICT}}")},
}

// anyhow is a change in which it does not.
var anyhow = change{
	"VirtualService": {
		object("networking", "VirtualService", "myapp", "{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 5s}]}"),
		object("networking", "VirtualService", "myapp", "{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 3s}]}"),
	},
	"AuthorizationPolicy": {"", object("security", "AuthorizationPolicy", "myapp", "{selector: {matchLabels: {app: myapp}}, rules: [{from: [{source: {namespaces: [default]}}]}]}")},
}

// folder holds a state: 0 is before, 1 after.
func (c change) folder(t *testing.T, state int) string {
	t.Helper()
	dir := t.TempDir()
	stage.Write(t, filepath.Join(dir, "shop.yaml"), shopOfTwo)
	for kind, texts := range c {
		stage.Write(t, filepath.Join(dir, kind+".yaml"), texts[state])
	}
	return dir
}

// order is what diff --order says.
func (c change) order(t *testing.T) *meshtest.Order {
	t.Helper()
	var worlds [2]*simulate.World
	for state := range worlds {
		m, _, err := inputs.LoadBare(t.Context(), inputs.Options{Paths: []string{c.folder(t, state)}, Validate: translate.Check})
		if err != nil {
			t.Fatal(err)
		}
		worlds[state] = simulate.NewWorld(m)
	}
	return meshtest.SafeOrder(meshtest.Diff(worlds[0], worlds[1]), worlds[0], worlds[1])
}

// apply makes the change in steps while requests are sent, and returns how
// they were failed.
func (c change) apply(t *testing.T, kinds []string) []string {
	t.Helper()
	s := stage.StartWith(t, c.folder(t, 0), up.Options{Mode: up.Namespaces})
	caller := s.Inside("client", "http://myapp")
	caller.Versions(t, 50, "/")
	l := load(t, caller)
	for _, kind := range kinds {
		s.Delivered(func() { s.Write(kind+".yaml", c[kind][1]) })
		l.more(t, 100)
	}
	l.end()
	t.Logf("%s: %d requests, %d failed", strings.Join(kinds, ", "), l.sent, len(l.failures))
	return l.failures
}

// TestSafeOrder makes changes step by step, in the order that diff --order
// gives: no request fails; and in the other one: some do. Where any order is
// safe, none fails in either.
func TestSafeOrder(t *testing.T) {
	stage.NeedNamespaces(t)
	t.Run("one is", func(t *testing.T) {
		o := toMutualTLS.order(t)
		var kinds []string
		for _, k := range o.Steps {
			kinds = append(kinds, k.Kind)
		}
		if o.Any || !slices.Equal(kinds, []string{"DestinationRule", "PeerAuthentication"}) || !strings.Contains(o.Danger, "PeerAuthentication") {
			t.Fatalf("the order is %+v", o)
		}
		if failed := toMutualTLS.apply(t, kinds); len(failed) > 0 {
			t.Errorf("%d requests failed, the first with: %s", len(failed), failed[0])
		}
		slices.Reverse(kinds)
		if failed := toMutualTLS.apply(t, kinds); len(failed) == 0 {
			t.Error("in the order that is said to be dangerous, no request failed")
		}
	})
	t.Run("any is", func(t *testing.T) {
		if o := anyhow.order(t); !o.Any {
			t.Fatalf("the order is %+v", o)
		}
		for _, kinds := range [][]string{{"VirtualService", "AuthorizationPolicy"}, {"AuthorizationPolicy", "VirtualService"}} {
			if failed := anyhow.apply(t, kinds); len(failed) > 0 {
				t.Errorf("%d requests failed, the first with: %s", len(failed), failed[0])
			}
		}
	})
}

// TestOrderNotTried: where services, workloads or certificates change beside,
// no order is said to be safe.
func TestOrderNotTried(t *testing.T) {
	timeout := func(of string) string {
		return object("networking", "VirtualService", "myapp", "{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: "+of+"}]}")
	}
	more := func(port string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: more}\nspec: {selector: {app: myapp}, ports: [{name: http, port: " + port + ", targetPort: 8080}]}\n"
	}
	deployment := func(version string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: more}\nspec: {selector: {matchLabels: {app: more}}, template: {metadata: {labels: {app: more, version: " + version + "}}, spec: {containers: [{name: c, image: c}]}}}\n"
	}
	secret := func(value string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: more}\nstringData: {a: " + value + "}\n"
	}
	for name, c := range map[string]struct {
		change change
		want   string
	}{
		"Service":           {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {more("80"), more("81")}}, "Service default/more"},
		"a new Service":     {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {"", more("81")}}, "Service default/more"},
		"Deployment":        {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {deployment("v1"), deployment("v2")}}, "Deployment default/more"},
		"Secret":            {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {secret("b"), secret("c")}}, "Secret default/more"},
		"Service alone":     {change{"more": {more("80"), more("81")}}, ""},
		"moved in its file": {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {more("80"), "# a comment\n" + more("80")}}, ""},
		"WorkloadEntry":     {change{"VirtualService": {timeout("5s"), timeout("3s")}, "more": {"", object("networking", "WorkloadEntry", "more", "{address: 10.9.9.9, labels: {app: myapp}}")}}, "WorkloadEntry default/more"},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.change.order(t)
			var untried []string
			for _, k := range o.Untried {
				untried = append(untried, k.String())
			}
			if got := strings.Join(untried, " "); o.Any != (got == "") || got != c.want {
				t.Errorf("any order %t, not tried %q, want %q (%s)", o.Any, got, c.want, o.Danger)
			}
		})
	}
}
