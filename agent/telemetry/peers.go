package telemetry

import (
	"context"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// workloadType is the type under which the control plane says who has an
// address.
const workloadType = "type.googleapis.com/pilotfish.telemetry.v1.Workload"

// How long answers hold: addresses are given to other pods in time. Without an
// answer nobody is asked for a while, so that a control plane that is away
// costs names, not metrics.
const (
	knownFor   = time.Minute
	unknownFor = 10 * time.Second
	askTimeout = time.Second
	askAgain   = 5 * time.Second
	maxPeers   = 4096
)

// Peers says who has an address, as the control plane knows it.
type Peers struct {
	connect func() (*grpc.ClientConn, error)
	node    *core.Node
	cluster string

	mu    sync.Mutex // guards what follows, and is held while asking
	conn  *grpc.ClientConn
	known map[string]peer
	pause time.Time // nobody is asked before
}

type peer struct {
	workload Workload
	ok       bool
	until    time.Time
}

// NewPeers makes Peers that ask by connect's connection, as a node. cluster is
// that of the control plane's workloads.
func NewPeers(connect func() (*grpc.ClientConn, error), node *core.Node, cluster string) *Peers {
	return &Peers{connect: connect, node: node, cluster: cluster, known: map[string]peer{}}
}

// Find returns an address's workload. It blocks for up to a second where the
// address is new.
func (p *Peers) Find(address string) (Workload, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if known, ok := p.known[address]; ok && now.Before(known.until) {
		return known.workload, known.ok
	}
	if now.Before(p.pause) {
		return Workload{}, false
	}
	found, err := p.ask(address)
	if err != nil {
		p.pause = now.Add(askAgain)
		p.hangUp()
		return Workload{}, false
	}
	if len(p.known) >= maxPeers {
		clear(p.known)
	}
	p.known[address] = found
	return found.workload, found.ok
}

func (p *Peers) ask(address string) (peer, error) {
	out := peer{until: time.Now().Add(unknownFor)}
	if p.conn == nil {
		conn, err := p.connect()
		if err != nil {
			return out, err
		}
		p.conn = conn
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(p.conn).StreamAggregatedResources(ctx)
	if err != nil {
		return out, err
	}
	if err := s.Send(&discovery.DiscoveryRequest{Node: p.node, TypeUrl: workloadType, ResourceNames: []string{address}}); err != nil {
		return out, err
	}
	r, err := s.Recv()
	if err != nil {
		return out, err
	}
	for _, a := range r.GetResources() {
		m := &structpb.Struct{}
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return out, err
		}
		f := m.GetFields()
		if f["address"].GetStringValue() != address {
			continue
		}
		labels := map[string]string{}
		for k, v := range f["labels"].GetStructValue().GetFields() {
			labels[k] = v.GetStringValue()
		}
		out.workload = FromLabels(f["workload"].GetStringValue(), f["namespace"].GetStringValue(), p.cluster, "", labels)
		out.ok, out.until = true, time.Now().Add(knownFor)
	}
	return out, nil
}

// hangUp ends the connection; the next question makes another one, with the
// certificate that is then the workload's. One that was made with an expired
// certificate would have every question refused. p.mu is held.
func (p *Peers) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// Close ends the connection.
func (p *Peers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp()
}
