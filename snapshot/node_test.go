package snapshot

import (
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// TestProxyWithCertificates: listeners that want certificates would never get
// ready in a proxy that nobody serves any, so a proxy must say that it has
// them, or be one of Istio's, which always has.
func TestProxyWithCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		metadata map[string]any
		want     bool
	}{
		"bare":            {nil, false},
		"Istio's":         {map[string]any{"ISTIO_VERSION": "1.31.0"}, true},
		"ours":            {map[string]any{"PILOTFISH_CERTIFICATES": "true"}, true},
		"ours, a boolean": {map[string]any{"PILOTFISH_CERTIFICATES": true}, true},
		"without":         {map[string]any{"PILOTFISH_CERTIFICATES": "false"}, false},
	} {
		md, err := structpb.NewStruct(c.metadata)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseNode(&core.Node{Id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local", Metadata: md})
		if err != nil {
			t.Fatal(err)
		}
		if p.Certificates != c.want {
			t.Errorf("%s: certificates %v, want %v", name, p.Certificates, c.want)
		}
	}
}
