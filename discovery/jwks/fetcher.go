package jwks

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Options are a Fetcher's settings. The zero value of each means its default.
type Options struct {
	// Internal allows addresses of the inside: loopback, private and link-local
	// ones, where clouds keep their credentials.
	Internal bool
	// Refresh is how long keys are taken for current. Default 20 minutes.
	Refresh time.Duration
	// Retry is the first pause after a failure; it doubles up to Refresh.
	// Default a second.
	Retry time.Duration
	// First is how long the first Mesh waits for its keys. Default 5 s.
	First time.Duration
	Log   *zap.Logger
}

func (o Options) withDefaults() Options {
	if o.Refresh == 0 {
		o.Refresh = 20 * time.Minute
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.First == 0 {
		o.First = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Fetcher keeps the keys that a mesh's RequestAuthentications name. Its methods
// may be called from any goroutine.
type Fetcher struct {
	options Options
	client  *client
	changed chan struct{} // capacity 1
	run     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	fetched, failed atomic.Uint64

	mu      sync.Mutex
	started bool // the first Mesh has been seen
	entries map[place]*entry
	sets    *config.KeySets
}

// place is where keys are asked for.
type place struct {
	uri      string
	metadata bool // the issuer's metadata, which names the keys' place
}

// entry is one place and the goroutine that asks it.
type entry struct {
	stop    context.CancelFunc
	timeout time.Duration
	once    sync.Once
	tried   chan struct{} // closed after the first attempt
	problem string        // why the newest attempt failed, or ""; guarded by Fetcher.mu
}

// New returns a Fetcher that runs until Close.
func New(o Options) *Fetcher {
	o = o.withDefaults()
	run, cancel := context.WithCancel(context.Background())
	return &Fetcher{
		options: o, client: newClient(o.Internal), changed: make(chan struct{}, 1), run: run, cancel: cancel,
		entries: map[place]*entry{}, sets: &config.KeySets{},
	}
}

// Close ends all fetching.
func (f *Fetcher) Close() {
	f.cancel()
	f.running.Wait()
	f.client.close()
}

// Attempts are the numbers of successful and of failed fetches so far.
func (f *Fetcher) Attempts() (fetched, failed uint64) { return f.fetched.Load(), f.failed.Load() }

// Changed has capacity 1 and receives a value after keys have changed: a Mesh
// is then to be passed through With again.
func (f *Fetcher) Changed() <-chan struct{} { return f.changed }

// With returns a Mesh with the keys that its RequestAuthentications name, as
// far as they are known, and sees to those that are not. For the first Mesh it
// waits a little, so that a control plane which starts does not take keys away
// from proxies that have them.
func (f *Fetcher) With(ctx context.Context, m *config.Mesh) *config.Mesh {
	f.mu.Lock()
	first := !f.started
	f.started = true
	f.want(wanted(m))
	var waiting []chan struct{}
	if first {
		for _, e := range f.entries {
			waiting = append(waiting, e.tried)
		}
	}
	f.mu.Unlock()
	if first {
		f.await(ctx, waiting)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := *m
	out.KeySets = f.sets
	return &out
}

func (f *Fetcher) await(ctx context.Context, all []chan struct{}) {
	end := time.NewTimer(f.options.First)
	defer end.Stop()
	for _, tried := range all {
		select {
		case <-tried:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// wanted are the places of keys that a Mesh names, with the longest time that
// some rule gives them.
func wanted(m *config.Mesh) map[place]time.Duration {
	out := map[place]time.Duration{}
	for p := range m.RequestAuthentications.All() {
		for _, r := range p.Spec.GetJwtRules() {
			if r.GetJwks() != "" {
				continue
			}
			at := place{}
			at.uri, at.metadata = config.KeySetURI(r.GetIssuer(), r.GetJwksUri())
			timeout := defaultTimeout
			if d := r.GetTimeout().AsDuration(); r.GetTimeout().IsValid() && d > 0 {
				timeout = min(d, maxTimeout)
			}
			out[at] = max(out[at], timeout)
		}
	}
	return out
}

// How long an issuer may take: JWTRule.timeout's default, and the most.
const (
	defaultTimeout = 5 * time.Second
	maxTimeout     = 30 * time.Second
)

// want starts and stops asking. f.mu is held.
func (f *Fetcher) want(places map[place]time.Duration) {
	for at, e := range f.entries {
		if t, ok := places[at]; !ok || t != e.timeout {
			e.stop()
			delete(f.entries, at)
			if !ok {
				f.replace(at.uri, nil)
			}
		}
	}
	for at, timeout := range places {
		if f.entries[at] != nil || f.run.Err() != nil {
			continue
		}
		ctx, stop := context.WithCancel(f.run)
		e := &entry{stop: stop, timeout: timeout, tried: make(chan struct{})}
		f.entries[at] = e
		f.running.Go(func() { f.keep(ctx, at, e) })
	}
}

// replace publishes a place's keys, or that it has none any more. f.mu is held.
func (f *Fetcher) replace(uri string, set *config.KeySet) (changed bool) {
	have, ok := f.sets.Get(uri)
	if set == nil && !ok || set != nil && ok && have.Hash == set.Hash {
		return false
	}
	next := &config.KeySets{ByURI: maps.Clone(f.sets.ByURI)}
	if next.ByURI == nil {
		next.ByURI = map[string]config.KeySet{}
	}
	if set == nil {
		delete(next.ByURI, uri)
	} else {
		next.ByURI[uri] = *set
	}
	f.sets = next
	return true
}

// keep asks one place again and again. Keys that were fetched stay while it
// fails.
func (f *Fetcher) keep(ctx context.Context, at place, e *entry) {
	pause := f.options.Retry
	for {
		set, err := f.client.fetch(ctx, at, e.timeout)
		if ctx.Err() != nil {
			return
		}
		next := f.options.Refresh
		if err != nil {
			f.failed.Add(1)
			next = pause
			pause = min(2*pause, f.options.Refresh)
			f.options.Log.Warn("the keys of a token issuer were not fetched", zap.String("uri", at.uri), zap.Error(err), zap.Duration("next_attempt_in", next))
		} else {
			f.fetched.Add(1)
			pause = f.options.Retry
		}
		f.note(at, e, set, err)
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (f *Fetcher) note(at place, e *entry, set config.KeySet, err error) {
	f.mu.Lock()
	changed := false
	if f.entries[at] == e {
		e.problem = ""
		if err != nil {
			e.problem = err.Error()
		} else {
			changed = f.replace(at.uri, &set)
		}
	}
	f.mu.Unlock()
	e.once.Do(func() { close(e.tried) })
	if changed {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

// Problems says of each RequestAuthentication of a Mesh whose keys were not
// fetched why.
func (f *Fetcher) Problems(m *config.Mesh) []config.Problem {
	if m == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []config.Problem
	for p := range m.RequestAuthentications.All() {
		if p.StandsIn != config.StandsInForNothing {
			continue // it has no issuer at all, as its problem tells
		}
		for _, r := range p.Spec.GetJwtRules() {
			at := place{}
			at.uri, at.metadata = config.KeySetURI(r.GetIssuer(), r.GetJwksUri())
			e := f.entries[at]
			if r.GetJwks() != "" || e == nil || e.problem == "" {
				continue
			}
			what := "all of its tokens are refused"
			if _, ok := f.sets.Get(at.uri); ok {
				what = "the keys of before stay"
			}
			out = append(out, config.At(&p.Meta, "spec.jwtRules", config.Warning, "KeysNotFetched",
				"the keys of issuer %q were not fetched, so %s: %s", r.GetIssuer(), what, e.problem))
		}
	}
	return out
}
