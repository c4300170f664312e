package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// restarted kills the server under its connected proxies, changes an endpoint
// that each of them sees, starts the server again, and times until every proxy,
// reconnecting with Envoy's backoff, has the change. The CPU is that of the new
// process, and so is the memory, at its highest.
func (r *runner) restarted(ctx context.Context, s *target, f *fleet, idle usage) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var streams atomic.Int64
	for _, p := range f.proxies {
		go p.follow(ctx, &streams)
	}
	for streams.Load() < int64(len(f.proxies)) {
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	f.quiet(ctx, 3*time.Second)

	ip := fmt.Sprintf("172.39.%s.1", r.mesh.run)
	var changes []func() error
	for service := range r.mesh.shape.namespaces { // one of each namespace
		change, err := r.mesh.addAddress(ctx, service, ip)
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	w := &watch{text: []byte(ip), want: len(f.proxies), done: make(chan struct{}), start: time.Now()}
	f.watch.Store(w)
	bytes, responses := f.bytes.Load(), f.responses.Load()
	for _, one := range s.servers {
		one.kill()
	}
	for _, change := range changes {
		if err := change(); err != nil {
			return err
		}
	}
	for _, one := range s.servers {
		if err := one.launch(ctx); err != nil {
			return err
		}
	}
	select {
	case <-w.done:
	case <-time.After(5 * r.timeout):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.quiet(ctx, 3*time.Second)
	after, err := s.usage()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.report(row{server: s.name, work: "restart", p50: percentile(w.took, .5), p99: percentile(w.took, 1), cpu: after.cpu,
		bytes: float64(f.bytes.Load()-bytes) / 1e6, responses: float64(f.responses.Load() - responses),
		memory: after.peak, perProxy: (after.peak - idle.rss) / float64(len(f.proxies)), missed: w.want - len(w.took)})
	return nil
}

// follow keeps a proxy connected: after a stream has ended it waits as Envoy
// does, for a random time below a bound that doubles from 0.5 to 30 s.
func (p *proxy) follow(ctx context.Context, streams *atomic.Int64) {
	const most = 30 * time.Second
	bound := 500 * time.Millisecond
	for ctx.Err() == nil {
		open := false
		_ = p.run(ctx, func() { // an ended stream is what this is about
			if !open {
				open, bound = true, 500*time.Millisecond
				streams.Add(1)
			}
		})
		if open {
			streams.Add(-1)
		}
		if !pause(ctx, rand.N(bound)) {
			return
		}
		bound = min(2*bound, most)
	}
}
