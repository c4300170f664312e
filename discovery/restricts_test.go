package discovery_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
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
