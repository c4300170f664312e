package telemetry

import (
	"net"
	"sync"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// expiring refuses every stream of the first connection, as a control plane
// does whose client's certificate has expired since.
type expiring struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	mu          sync.Mutex
	connections map[string]int // by the client's address: streams
	first       string
}

func (e *expiring) StreamAggregatedResources(s discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	r, err := s.Recv()
	if err != nil {
		return err
	}
	from, _ := grpcpeer.FromContext(s.Context())
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first == "" {
		e.first = from.Addr.String()
	}
	e.connections[from.Addr.String()]++
	if from.Addr.String() == e.first {
		return status.Error(codes.Unauthenticated, "the client's certificate has expired")
	}
	known, err := structpb.NewStruct(map[string]any{"address": r.GetResourceNames()[0], "workload": "app", "namespace": "shop"})
	if err != nil {
		return err
	}
	body, err := anypb.New(known)
	if err != nil {
		return err
	}
	return s.Send(&discovery.DiscoveryResponse{Resources: []*anypb.Any{body}})
}

// After a refusal the next question comes by another connection.
func TestPeersConnectAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &expiring{connections: map[string]int{}}
	g := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(g, e)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	p := NewPeers(func() (*grpc.ClientConn, error) {
		return grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	}, nil, "Kubernetes")
	t.Cleanup(p.Close)
	if w, ok := p.Find("10.0.0.1"); ok {
		t.Fatalf("a refusal tells of %v", w)
	}
	if _, ok := p.Find("10.0.0.1"); ok {
		t.Fatal("the control plane is asked again at once")
	}
	p.mu.Lock()
	p.pause = time.Time{}
	p.mu.Unlock()
	for _, address := range []string{"10.0.0.1", "10.0.0.2"} {
		if w, ok := p.Find(address); !ok || w.Name != "app" || w.Namespace != "shop" {
			t.Errorf("%s is of %v, %v", address, w, ok)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.connections) != 2 || e.connections[e.first] != 1 {
		t.Errorf("streams by connection: %v, want one refused and two on another connection", e.connections)
	}
}
