package kube

import (
	"testing"

	"google.golang.org/protobuf/proto"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// TestPolicyThatCannotBeRead reads what an API server with other CRDs holds.
func TestPolicyThatCannotBeRead(t *testing.T) {
	deny := &security.AuthorizationPolicy{Action: security.AuthorizationPolicy_DENY, Rules: []*security.Rule{{}}}
	for _, c := range []struct {
		spec, selects string
		stands        config.StandIn
	}{
		{`{"selector":{"matchLabels":{"app":"web"}},"action":"ALLOW","rules":[{"form":[]}]}`, "web", config.StandsInForSelected},
		{`{"rules":[{"form":[]}]}`, "", config.StandsInForSelected},
		{`{"rules":[{"form":[]}],"selector":{"matchLabel":{"app":"web"}}}`, "", config.StandsInForNamespace},
		{`{"choice":{"app":"web"},"rules":[{}]}`, "", config.StandsInForNamespace},
		{`{"action":"DENI","selector":{"matchLabels":{"app":"web"}}}`, "web", config.StandsInForSelected},
		{`{"action":3.5,"selector":7}`, "", config.StandsInForNamespace},
	} {
		kind := discovery.Kind{Group: discovery.SecurityGroup, Kind: "AuthorizationPolicy", New: func() proto.Message { return new(security.AuthorizationPolicy) }}
		o, problems, err := Read(kind, "v1", []byte(`{"metadata":{"name":"p","namespace":"a"},"spec":`+c.spec+`}`))
		if err != nil || o == nil || len(problems) != 1 || problems[0].Severity != config.Error {
			t.Errorf("%s: %v, %v, %v", c.spec, o, problems, err)
			continue
		}
		got, _ := o.Body.(*security.AuthorizationPolicy)
		if s := got.GetSelector().GetMatchLabels()["app"]; s != c.selects || o.Meta.StandsIn != c.stands {
			t.Errorf("%s: stands in %d for %q, want %d for %q", c.spec, o.Meta.StandsIn, s, c.stands, c.selects)
		}
		rest, _ := proto.Clone(got).(*security.AuthorizationPolicy)
		if rest.Selector = nil; !proto.Equal(rest, deny) {
			t.Errorf("%s: does %v", c.spec, rest)
		}
	}
}
