package snapshot_test

import (
	"context"
	"fmt"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// A tool asks, is answered with parts of their own types by somebody who says
// who it is, and counts as no proxy.
func TestTools(t *testing.T) {
	const kind = "example.com/question"
	asked := make(chan snapshot.Question, 10)
	answer := func(_ context.Context, q snapshot.Question) (snapshot.Reply, error) {
		asked <- q
		r, err := translate.NewResource("one", wrapperspb.String("said"), translate.Refs{})
		if err != nil {
			return snapshot.Reply{}, err
		}
		return snapshot.Reply{ControlPlane: "who", Resources: []snapshot.Part{{Resource: r, Type: "example.com/part"}, {Resource: r}}}, nil
	}
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{
		Answers: map[string]snapshot.Answer{kind: answer},
		Authorize: func(_ context.Context, p *config.Proxy) (snapshot.Grant, error) {
			return snapshot.Grant{ServiceAccount: "admin"}, nil
		},
	})
	tool := node("tool")
	tool.Metadata.Fields["GENERATOR"] = structpb.NewStringValue(snapshot.ToolGenerator)
	conn := s.connection()
	t.Cleanup(func() { _ = conn.Close() })
	ads := discovery.NewAggregatedDiscoveryServiceClient(conn)
	stream, err := ads.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The second request acknowledges, the third asks again with a nonce that
	// the server never gave, as istioctl does.
	for i, nonce := range []string{"some time ago", "1", "some time ago", ""} {
		req := &discovery.DiscoveryRequest{Node: tool, TypeUrl: kind, ResourceNames: []string{fmt.Sprint(i)}, ResponseNonce: nonce}
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		if nonce == "1" {
			continue
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if q := <-asked; q.ServiceAccount != "admin" || q.Type != kind || q.Names[0] != fmt.Sprint(i) {
			t.Errorf("asked %+v, want request %d", q, i)
		}
		got := fmt.Sprint(resp.GetTypeUrl(), " ", resp.GetControlPlane().GetIdentifier(), " ", resp.GetResources()[0].GetTypeUrl(), " ", resp.GetResources()[1].GetTypeUrl())
		if want := kind + " who example.com/part " + kind; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if list := s.server.Proxies(); len(list) > 0 {
		t.Errorf("proxies %v, want none", list)
	}
	// What proxies are configured with is not for tools.
	if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: cds}); err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.Recv(); err != nil || resp.GetTypeUrl() != cds || len(resp.GetResources()) != 0 {
		t.Errorf("a tool is sent clusters: %v, %v", resp, err)
	}
	delta, err := ads.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(&discovery.DeltaDiscoveryRequest{Node: tool, TypeUrl: kind, ResourceNamesSubscribe: []string{"d"}}); err != nil {
		t.Fatal(err)
	}
	resp, err := delta.Recv()
	if err != nil || resp.GetControlPlane().GetIdentifier() != "who" || resp.GetResources()[0].GetResource().GetTypeUrl() != "example.com/part" {
		t.Errorf("got %v, %v", resp, err)
	}
}
