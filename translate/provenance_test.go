package translate

import (
	"regexp"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// istioctl experimental describe takes what a cluster names for the path of its
// DestinationRule: it must be one, or nothing.
func TestClustersNameADestinationRuleOrNothing(t *testing.T) {
	path := regexp.MustCompile(`^/apis/networking(\.istio\.io)?/v1(?:alpha3)?/namespaces/shop/destination-rule/web$`) // as istioctl 1.31 reads it
	s := &config.Service{Kubernetes: true, Hostname: "web.shop.svc.cluster.local"}
	s.Key = config.Key{Kind: "Service", Namespace: "shop", Name: "web"}
	if m := serviceProvenance(s); m != nil {
		t.Errorf("a Service without a rule names %v", m)
	}
	rule := &config.Meta{Key: config.Key{Group: "networking.istio.io", Kind: "DestinationRule", Namespace: "shop", Name: "web"}, Version: "v1"}
	if got := provenance(rule).GetFilterMetadata()[provenanceFilter].GetFields()[provenanceField].GetStringValue(); !path.MatchString(got) {
		t.Errorf("a rule is named %q, want %s", got, path)
	}
}
