package main

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// fleet is the simulated sidecars and what they have seen together.
type fleet struct {
	address string
	delta   bool
	proxies []*proxy
	deps    dependents
	sizes   *fieldSizes // of what the first proxy receives; nil: not asked for

	bytes, responses, errors atomic.Int64
	activity                 atomic.Int64 // time of the last response, Unix ns
	watch                    atomic.Pointer[watch]
}

// watch waits for a text to reach every proxy.
type watch struct {
	text  []byte
	start time.Time
	want  int

	mu   sync.Mutex
	took []time.Duration
	done chan struct{}
}

// seen notes that one more proxy has the text.
func (w *watch) seen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, time.Since(w.start))
	if len(w.took) == w.want {
		close(w.done)
	}
}

// proxy subscribes as Envoy does: CDS, then EDS for its clusters, LDS, then
// RDS for its listeners.
type proxy struct {
	fleet   *fleet
	node    *core.Node
	matched *watch

	subscribed map[string]map[string]bool   // type -> names
	versions   map[string]map[string]string // type -> name -> version
	got        map[string]bool              // types answered on this stream
	last       map[string]response
	// asked are the names of subscribed as SotW requests repeat them.
	asked map[string][]string
}

func newProxy(f *fleet, node *core.Node) *proxy {
	p := &proxy{fleet: f, node: node, subscribed: map[string]map[string]bool{}, versions: map[string]map[string]string{}, asked: map[string][]string{}}
	for _, t := range []string{typeCluster, typeEndpoint, typeListener, typeRoute} {
		p.subscribed[t] = map[string]bool{}
		p.versions[t] = map[string]string{}
	}
	return p
}

// connect opens one connection and one stream for each proxy, and returns when
// all have what they subscribed to. It ends with ctx.
func (f *fleet) connect(ctx context.Context) error {
	var wg sync.WaitGroup
	var failure atomic.Pointer[error]
	for _, p := range f.proxies {
		wg.Add(1)
		go func() {
			var once sync.Once
			err := p.run(ctx, func() { once.Do(wg.Done) })
			if err != nil && ctx.Err() == nil {
				f.errors.Add(1)
				failure.CompareAndSwap(nil, &err)
			}
			once.Do(wg.Done)
		}()
	}
	wg.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *proxy) run(ctx context.Context, synced func()) error {
	conn, err := grpc.NewClient(p.fleet.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.ForceCodecV2(codec{})),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	method, parse := "StreamAggregatedResources", parseSotW
	if p.fleet.delta {
		method, parse = "DeltaAggregatedResources", parseDelta
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true},
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/"+method)
	if err != nil {
		return err
	}
	p.got, p.last = map[string]bool{}, map[string]response{}
	if err := p.open(stream); err != nil {
		return err
	}
	if p.complete() { // a warm reconnect: nothing need come
		synced()
	}
	for {
		var f frame
		if err := stream.RecvMsg(&f); err != nil {
			return err
		}
		err := p.take(stream, f.raw(), parse)
		f.data.Free()
		if err != nil {
			return err
		}
		if p.complete() {
			synced()
		}
	}
}

// take reads a response, keeps nothing of its bytes, and answers it.
func (p *proxy) take(s grpc.ClientStream, raw []byte, parse func([]byte) (response, error)) error {
	r, err := parse(raw)
	if err != nil {
		return err
	}
	p.note(&r)
	return p.answer(s, r)
}

// open sends the first requests. A delta client that was connected before says
// what it has, for every type at once.
func (p *proxy) open(s grpc.ClientStream) error {
	if !p.fleet.delta {
		return s.SendMsg(&discovery.DiscoveryRequest{Node: p.node, TypeUrl: typeCluster})
	}
	if len(p.versions[typeCluster]) == 0 {
		return s.SendMsg(&discovery.DeltaDiscoveryRequest{Node: p.node, TypeUrl: typeCluster})
	}
	for _, t := range []string{typeCluster, typeEndpoint, typeListener, typeRoute} {
		r := &discovery.DeltaDiscoveryRequest{TypeUrl: t, InitialResourceVersions: p.versions[t]}
		if t == typeCluster {
			r.Node = p.node
		}
		if t == typeEndpoint || t == typeRoute {
			r.ResourceNamesSubscribe = slices.Sorted(maps.Keys(p.subscribed[t]))
		}
		if err := s.SendMsg(r); err != nil {
			return err
		}
		p.got[t] = true // nothing changed: no answer need come
	}
	return nil
}

// note counts a response and looks for the text that the fleet waits for.
func (p *proxy) note(r *response) {
	f := p.fleet
	f.activity.Store(time.Now().UnixNano())
	f.responses.Add(1)
	if f.sizes != nil && p == f.proxies[0] {
		f.sizes.add(r)
	}
	w := f.watch.Load()
	for i := range r.resources {
		one := &r.resources[i]
		f.bytes.Add(int64(len(one.body)))
		if f.delta {
			p.versions[r.typeURL][one.name] = one.version
		}
		if w != nil && p.matched != w && bytes.Contains(one.body, w.text) {
			p.matched = w
			w.seen()
		}
	}
	for _, n := range r.removed {
		delete(p.versions[r.typeURL], n)
	}
}

func (p *proxy) complete() bool {
	return p.got[typeCluster] && p.got[typeListener] &&
		(p.got[typeEndpoint] || len(p.subscribed[typeEndpoint]) == 0) &&
		(p.got[typeRoute] || len(p.subscribed[typeRoute]) == 0)
}

// answer acknowledges a response and subscribes to what it points to.
func (p *proxy) answer(s grpc.ClientStream, r response) error {
	first := !p.got[r.typeURL]
	p.got[r.typeURL] = true
	if p.fleet.delta {
		return p.answerDelta(s, r, first)
	}
	return p.answerSotW(s, r, first)
}

func (p *proxy) answerDelta(s grpc.ClientStream, r response, first bool) error {
	if err := s.SendMsg(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce}); err != nil {
		return err
	}
	if next := pointsTo(r.typeURL); next != "" {
		names, err := p.names(r)
		if err != nil {
			return err
		}
		var added []string
		for _, n := range names {
			if !p.subscribed[next][n] {
				p.subscribed[next][n] = true
				added = append(added, n)
			}
		}
		if len(added) > 0 {
			if err := s.SendMsg(&discovery.DeltaDiscoveryRequest{TypeUrl: next, ResourceNamesSubscribe: added}); err != nil {
				return err
			}
		}
	}
	if r.typeURL == typeCluster && first {
		return s.SendMsg(&discovery.DeltaDiscoveryRequest{TypeUrl: typeListener})
	}
	return nil
}

func (p *proxy) answerSotW(s grpc.ClientStream, r response, first bool) error {
	p.last[r.typeURL] = response{version: r.version, nonce: r.nonce}
	if err := p.request(s, r.typeURL); err != nil {
		return err
	}
	if next := pointsTo(r.typeURL); next != "" {
		names, err := p.names(r)
		if err != nil {
			return err
		}
		now := map[string]bool{}
		for _, n := range names {
			now[n] = true
		}
		// Envoy asks for the endpoints again whenever clusters were updated.
		same := maps.Equal(now, p.subscribed[next])
		if again := next == typeEndpoint || !same; again && len(now) > 0 {
			if !same {
				p.subscribed[next], p.asked[next] = now, slices.Sorted(maps.Keys(now))
			}
			if err := p.request(s, next); err != nil {
				return err
			}
		}
	}
	if r.typeURL == typeCluster && first {
		return p.request(s, typeListener)
	}
	return nil
}

// request is a SotW request or acknowledgement with everything subscribed to.
func (p *proxy) request(s grpc.ClientStream, typeURL string) error {
	return s.SendMsg(&discovery.DiscoveryRequest{
		TypeUrl: typeURL, VersionInfo: p.last[typeURL].version, ResponseNonce: p.last[typeURL].nonce,
		ResourceNames: p.asked[typeURL],
	})
}

func (p *proxy) names(r response) ([]string, error) {
	var out []string
	for _, one := range r.resources {
		names, err := p.fleet.deps.of(r.typeURL, one.body)
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	return out, nil
}

// pointsTo is the type that resources of a type make Envoy subscribe to.
func pointsTo(typeURL string) string {
	switch typeURL {
	case typeCluster:
		return typeEndpoint
	case typeListener:
		return typeRoute
	}
	return ""
}
