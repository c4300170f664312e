package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"runtime"
	"slices"
	"time"
)

// row is one measured work.
type row struct {
	server, work string
	p50, p99     time.Duration // over all proxies and rounds; for connect p50 is the whole time
	cpu          time.Duration // of the server, a change
	bytes        float64       // MB of resources, a change
	responses    float64
	memory       float64 // MB resident afterwards
	perProxy     float64 // MB above idle, a proxy
	missed       int     // proxies that did not get a change in time
}

type runner struct {
	mesh    *mesh
	proxies int
	rounds  int
	delta   bool
	timeout time.Duration
	report  func(row)
	// churn is how many endpoints change a second for churnFor; 0 leaves it out.
	churn    int
	churnFor time.Duration
	scoped   bool // each proxy sees its namespace only
	restart  bool // kill the server under the fleet, and start it again
	hosts    hosts
	only     string // the one kind of change to make; empty for all
	profiles profiler
	// fields is where to tell what the first proxy's first resources are made
	// of, field by field; nil leaves it out.
	fields io.Writer
}

// run measures one server: connect, each change, reconnect.
func (r *runner) run(ctx context.Context, s *target) error {
	f := &fleet{address: s.address, delta: r.delta, deps: dependents{seed: maphash.MakeSeed()}}
	for i := range r.proxies {
		node, err := r.mesh.shape.node(i, r.hosts.n > 0)
		if err != nil {
			return err
		}
		f.proxies = append(f.proxies, newProxy(f, node))
	}
	idle, err := s.usage()
	if err != nil {
		return err
	}
	if err := r.connected(ctx, s, f, idle); err != nil {
		return err
	}
	if r.delta {
		if !pause(ctx, 2*time.Second) {
			return ctx.Err()
		}
		streams, end := context.WithCancel(ctx)
		defer end()
		if err := r.connect(streams, s, f, "reconnect", idle); err != nil {
			return err
		}
	}
	if err := r.mesh.restore(ctx); err != nil {
		return err
	}
	if r.hosts.n > 0 {
		return r.hosts.restore(ctx, r.rounds)
	}
	if !r.restart {
		return nil
	}
	if err := r.restarted(ctx, s, f, idle); err != nil {
		return err
	}
	return r.mesh.restore(ctx)
}

// connected connects the fleet, makes every change, and disconnects.
func (r *runner) connected(ctx context.Context, s *target, f *fleet, idle usage) error {
	streams, end := context.WithCancel(ctx)
	defer end()
	if r.fields != nil {
		f.sizes = &fieldSizes{}
	}
	if err := r.profiles.around(ctx, s, "connect", func() error { return r.connect(streams, s, f, "connect", idle) }); err != nil {
		return err
	}
	if err := s.shares(os.Stderr); err != nil {
		return err
	}
	if r.fields != nil {
		fmt.Fprintf(r.fields, "What one proxy is sent by %s, in bytes:\n%s", s.name, f.sizes.report())
		f.sizes = nil
	}
	changes := r.mesh.changes()
	if r.hosts.n > 0 {
		changes = []change{{"host", false, r.hosts.one}}
	}
	for _, c := range changes {
		if r.only != "" && r.only != c.name {
			continue
		}
		if err := r.profiles.around(ctx, s, c.name, func() error { return r.change(ctx, s, f, c, idle) }); err != nil {
			return err
		}
	}
	if r.churn > 0 {
		return r.churned(ctx, s, f, idle)
	}
	return nil
}

func (r *runner) connect(ctx context.Context, s *target, f *fleet, work string, idle usage) error {
	before, err := s.usage()
	if err != nil {
		return err
	}
	bytes, responses, start := f.bytes.Load(), f.responses.Load(), time.Now()
	f.activity.Store(start.UnixNano())
	if err := f.connect(ctx); err != nil {
		return fmt.Errorf("%s: %w", work, err)
	}
	took := time.Since(start)
	f.quiet(ctx, 3*time.Second)
	after, err := s.usage()
	if err != nil {
		return err
	}
	r.report(row{server: s.name, work: work, p50: took, cpu: after.cpu - before.cpu,
		bytes: float64(f.bytes.Load()-bytes) / 1e6, responses: float64(f.responses.Load() - responses),
		memory: after.rss, perProxy: (after.rss - idle.rss) / float64(len(f.proxies))})
	return nil
}

func (r *runner) change(ctx context.Context, s *target, f *fleet, c change, idle usage) error {
	// What the fleet's own collector takes, 0.1 s after it has connected, is no way of a change.
	runtime.GC()
	before, err := s.usage()
	if err != nil {
		return err
	}
	bytes, responses := f.bytes.Load(), f.responses.Load()
	var took []time.Duration
	missed := 0
	for round := range r.rounds {
		f.quiet(ctx, 500*time.Millisecond)
		n, err := r.once(ctx, f, c, round, &took)
		if err != nil {
			return err
		}
		missed += n
	}
	f.quiet(ctx, 1500*time.Millisecond)
	after, err := s.usage()
	if err != nil {
		return err
	}
	n := float64(r.rounds)
	r.report(row{server: s.name, work: c.name, p50: percentile(took, .5), p99: percentile(took, .99),
		cpu: (after.cpu - before.cpu) / time.Duration(r.rounds), bytes: float64(f.bytes.Load()-bytes) / 1e6 / n,
		responses: float64(f.responses.Load()-responses) / n, memory: after.rss,
		perProxy: (after.rss - idle.rss) / float64(len(f.proxies)), missed: missed})
	return nil
}

// once makes a change and waits until every proxy that sees it has it. It
// returns how many did not get it in time.
func (r *runner) once(ctx context.Context, f *fleet, c change, round int, took *[]time.Duration) (missed int, err error) {
	text, apply, err := c.prepare(ctx, round)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	w := &watch{text: []byte(text), want: r.concerned(c.local), done: make(chan struct{}), start: time.Now()}
	f.watch.Store(w)
	if err := apply(); err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	select {
	case <-w.done:
	case <-time.After(r.timeout):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	*took = append(*took, w.took...)
	return w.want - len(w.took), nil
}

// concerned is how many proxies see what happens in ns-0, to all or to itself.
func (r *runner) concerned(local bool) int {
	if !r.scoped && !local || r.hosts.n > 0 {
		return r.proxies
	}
	n := 0
	for i := range r.proxies {
		if i/r.mesh.shape.pods%r.mesh.shape.services%r.mesh.shape.namespaces == 0 {
			n++
		}
	}
	return n
}

// quiet waits until no proxy has received anything for d.
func (f *fleet) quiet(ctx context.Context, d time.Duration) {
	for {
		since := time.Since(time.Unix(0, f.activity.Load()))
		if since >= d || !pause(ctx, d-since) {
			return
		}
	}
}

func percentile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[int(q*float64(len(d)-1))]
}
