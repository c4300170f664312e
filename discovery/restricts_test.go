package discovery_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// TestFaultyPolicyIsBetterThanNone: without any version of a policy that takes
// rights away everything would be allowed. A good version stays, though, and a
// faulty route is nothing.
func TestFaultyPolicyIsBetterThanNone(t *testing.T) {
	faulty := func(meta *config.Meta, _ proto.Message) []config.Problem {
		if strings.HasPrefix(meta.Labels["is"], "faulty") {
			return []config.Problem{config.At(meta, "spec", config.Error, "Faulty", "is faulty")}
		}
		return nil
	}
	s := discovery.NewStore(faulty, "file")
	s.Synced("file")
	version := func(is string) string {
		s.Apply("file", changesOf(t, `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop, labels: {is: `+is+`}}
spec: {}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop, labels: {is: `+is+`}}
spec: {hosts: [a]}
`))
		out := ""
		if p, ok := s.Mesh().AuthorizationPolicies.Get("shop", "p"); ok {
			out = p.Labels["is"]
		}
		if v, ok := s.Mesh().VirtualServices.Get("shop", "v"); ok {
			out += " " + v.Labels["is"]
		}
		return out
	}
	for _, c := range []struct{ given, want string }{
		{"faulty-1", "faulty-1"}, {"faulty-2", "faulty-2"}, {"good", "good good"}, {"faulty-3", "good good"}, {"better", "better better"},
	} {
		if got := version(c.given); got != c.want {
			t.Errorf("after %s: in effect %q, want %q", c.given, got, c.want)
		}
	}
}

// TestPolicyThatCannotBeRead: the first version of a policy restricts all the
// same; a later one leaves the last good version in effect. Either is said.
func TestPolicyThatCannotBeRead(t *testing.T) {
	s := discovery.NewStore(nil, "file")
	s.Synced("file")
	for _, c := range []struct{ spec, action, says string }{
		{"{selector: {matchLabels: {app: web}}, rules: [{form: []}]}", "DENY", "until it can, it denies everything to the workloads that it selects"},
		{"{selektor: {}, rules: [{}]}", "DENY", "denies everything to all workloads that a policy of namespace shop is for"},
		{"{action: AUDIT, rules: [{form: []}]}", "AUDIT", "it has no effect"},
		{"{rules: [{}]}", "ALLOW", ""},
		{"{rules: [{form: []}]}", "ALLOW", "its last good version stays in effect"},
	} {
		objects, _ := file.Parse("in.yaml", []byte("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: "+c.spec))
		s.Apply("file", []discovery.Change{{Object: objects[0]}})
		m := s.Mesh()
		p, ok := m.AuthorizationPolicies.Get("shop", "p")
		if !ok || p.Spec.GetAction().String() != c.action {
			t.Errorf("%s: in effect is %v, want action %s", c.spec, p, c.action)
		}
		said := ""
		for _, problem := range m.Problems {
			if problem.Code == "FailsClosed" && problem.Severity == config.Error && problem.Object.Name == "p" && problem.File == "in.yaml" {
				said = problem.Message
			}
		}
		if (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
			t.Errorf("%s: the problem is %q, want %q", c.spec, said, c.says)
		}
	}
}

// TestSelectorThatSelectsNothing: a policy whose selector no workload can have
// was meant for some.
func TestSelectorThatSelectsNothing(t *testing.T) {
	faulty := func(meta *config.Meta, _ proto.Message) []config.Problem {
		return []config.Problem{config.At(meta, "spec.selector.matchLabels[app]", config.Error, "Faulty", "is faulty")}
	}
	s := discovery.NewStore(faulty, "file")
	s.Synced("file")
	s.Apply("file", changesOf(t, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\nspec: {selector: {matchLabels: {app: 'x*'}}, mtls: {mode: DISABLE}}"))
	p, ok := s.Mesh().PeerAuthentications.Get("shop", "p")
	if !ok || p.Spec.GetSelector() != nil || p.Spec.GetMtls().GetMode().String() != "STRICT" || p.StandsIn != config.StandsInForNamespace {
		t.Errorf("in effect is %v", p)
	}
}

// TestExtensionThatCannotBeRead: an extension that does not fail open refuses,
// as long as no good version of it is known.
func TestExtensionThatCannotBeRead(t *testing.T) {
	s := discovery.NewStore(nil, "file")
	s.Synced("file")
	const whom, all = "until it can, it refuses what it would see of the workloads that it selects", "of all workloads that a policy of namespace shop is for"
	for _, c := range []struct{ kind, spec, effect, says string }{
		{"WasmPlugin", "{selector: {matchLabels: {app: web}}, url: a/b, failStrategy: FAIL_OPEN, colour: red}", "", ""},
		{"WasmPlugin", "{selector: {matchLabels: {app: web}}, url: a/b, match: [{mode: SERVER}], colour: red}", `selector:{match_labels:{key:"app" value:"web"}} match:{mode:SERVER}`, whom},
		{"WasmPlugin", "{selektor: {matchLabels: {app: web}}, url: a/b}", "", all},
		{"WasmPlugin", "{url: a/b, type: NETWORK, colour: red}", "type:NETWORK", all},
		{"WasmPlugin", "{url: a/b}", `url:"a/b"`, ""},
		{"WasmPlugin", "{url: c/d, colour: red}", `url:"a/b"`, "its last good version stays in effect"},
		{"TrafficExtension", "{selector: {matchLabels: {app: web}}, wasm: {url: a/b, failStrategy: FAIL_OPEN}, colour: red}", "", ""},
		{"TrafficExtension", "{selector: {matchLabels: {app: web}}, lua: {inlineCode: x}, colour: red}", `selector:{match_labels:{key:"app" value:"web"}} wasm:{}`, whom},
	} {
		objects, _ := file.Parse("in.yaml", []byte("apiVersion: extensions.istio.io/v1alpha1\nkind: "+c.kind+"\nmetadata: {name: p, namespace: shop}\nspec: "+c.spec))
		for i := range objects {
			s.Apply("file", []discovery.Change{{Object: objects[i]}})
		}
		if len(objects) == 0 { // as a source that no longer sees it
			s.Apply("file", []discovery.Change{{Deleted: true, Object: discovery.Object{Meta: config.Meta{Key: config.Key{Group: discovery.ExtensionsGroup, Kind: c.kind, Namespace: "shop", Name: "p"}}}}})
		}
		m := s.Mesh()
		effect, there := "", false
		if c.kind == "WasmPlugin" {
			p, ok := m.WasmPlugins.Get("shop", "p")
			if there = ok; ok {
				effect = p.Spec.String()
			}
		} else {
			p, ok := m.TrafficExtensions.Get("shop", "p")
			if there = ok; ok {
				effect = p.Spec.String()
			}
		}
		if want := c.effect != "" || c.says != ""; there != want || strings.ReplaceAll(effect, "  ", " ") != c.effect {
			t.Errorf("%s %s: in effect is %t %q, want %q", c.kind, c.spec, there, effect, c.effect)
		}
		said := ""
		for _, problem := range m.Problems {
			if problem.Code == "FailsClosed" && problem.Object.Name == "p" && problem.Object.Kind == c.kind {
				said = problem.Message
			}
		}
		if (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
			t.Errorf("%s %s: the problem is %q, want %q", c.kind, c.spec, said, c.says)
		}
	}
}
