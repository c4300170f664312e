package translate

import (
	"testing"

	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Tables that one Translator remembers of a mesh without spans are not those
// of the same services once there are some, and the other way round.
func TestOperationsFollowTracing(t *testing.T) {
	b := config.NewBuilder(nil)
	putServices(b, service("shop", "ratings", 80))
	quiet := b.Mesh()
	mc := proto.CloneOf(quiet.Settings.Mesh)
	mc.EnableTracing = true
	mc.DefaultConfig.Tracing = &meshconfig.Tracing{Tracer: &meshconfig.Tracing_Zipkin_{
		Zipkin: &meshconfig.Tracing_Zipkin{Address: "zipkin.example.com:9411"},
	}}
	b = config.NewBuilder(quiet)
	b.SetSettings(config.NewSettings(config.Meta{}, mc, "cluster.local"))
	traced := b.Mesh()
	tr := NewTranslator(100)
	for _, c := range []struct {
		mesh *config.Mesh
		want string
	}{{quiet, ""}, {traced, "ratings.shop.svc.cluster.local:80/*"}, {quiet, ""}} {
		rc := decodeTable(t, table80(tr, NewIndex(c.mesh).Scope(shopClass("shop"))))
		if got := rc.VirtualHosts[0].Routes[0].GetDecorator().GetOperation(); got != c.want {
			t.Errorf("operation %q, want %q", got, c.want)
		}
	}
}
