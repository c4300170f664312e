package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Name is how the source calls itself to the Store.
const Name = "kube"

// Options are a Source's settings.
type Options struct {
	// Log receives a line for each change of what the API server lets the
	// source see, and client-go's own messages at level debug. Nil: no log.
	Log *zap.Logger
	// Pace is the shortest time between two steps of the Store; changes that
	// arrive in between make one step. Default 10 ms.
	Pace time.Duration
	// Saved is a file that holds the last good state, without Secrets; empty
	// for none. It is in effect while the API server is away at the start.
	Saved string
	// Patience is how long the server may be away before that. Default 5 s.
	Patience time.Duration
	// Status, unless nil, is told of the status of each of Istio's objects when the
	// object is read, as JSON; nil when it has gone. It must not keep it, and may be
	// called from several goroutines.
	Status func(key config.Key, text []byte)
	// SavePace is the shortest time between two savings. Default 10 s.
	SavePace time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Pace == 0 {
		o.Pace = 10 * time.Millisecond
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.SavePace == 0 {
		o.SavePace = 10 * time.Second
	}
	return o
}

// Source is a discovery.Source of what an API server holds. It is made by New
// and run once.
type Source struct {
	options Options
	clients *clients
	health  *health
	pending *pending
	view    *view
}

var _ discovery.Source = (*Source)(nil)

// New returns a Source of the API server that config leads to. It does not
// contact it. The rights that it needs are get, list and watch of what
// coreKinds lists, of CustomResourceDefinitions and of discovery.Kinds.
func New(config *rest.Config, o Options) (*Source, error) {
	o = o.withDefaults()
	c, err := newClients(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	return &Source{
		options: o, clients: c, health: newHealth(o.Log), pending: newPending(),
		view: newView(o.Saved, config.Host, o.SavePace, o.Log),
	}, nil
}

// Run implements discovery.Source. A server that cannot be reached, at the
// start or later, is waited for: Run returns only when ctx ends, and nil.
func (s *Source) Run(ctx context.Context, store *discovery.Store) error {
	ctx = klog.NewContext(ctx, debugLogger(s.options.Log))
	var running sync.WaitGroup
	defer s.clients.close()
	defer running.Wait()

	core := coreKinds()
	gates := make([]<-chan struct{}, 0, len(core))
	for _, k := range core {
		f := newFollower(k.key, k.read, s.pending)
		gates = append(gates, f.synced)
		running.Go(func() { reflect(ctx, s.clients.core(k), f, s.health) })
	}
	istio := newCRDs(s)
	running.Go(func() { istio.run(ctx, &running) })

	synced := make(chan struct{})
	running.Go(func() {
		for _, gate := range append(gates, istio.gates()...) {
			if !waitFor(ctx, gate) {
				return
			}
		}
		close(synced)
	})
	away := make(chan struct{})
	if s.options.Saved != "" {
		removeHalfWritten(s.options.Saved)
	}
	running.Go(func() {
		if s.options.Saved != "" && s.waitAway(ctx, synced) {
			close(away)
		}
	})
	s.apply(ctx, store, synced, away)
	return nil
}

// waitFor returns true when c is closed, false if ctx ends first.
func waitFor(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	}
}

// apply carries pending changes to the store: at once when the last step was
// Pace ago, else when it will have been. synced is closed when all that
// existed at the start is pending or applied; away, when the server has been
// away so long that the saved state is better than none.
func (s *Source) apply(ctx context.Context, store *discovery.Store, synced, away <-chan struct{}) {
	saving := time.NewTicker(s.options.SavePace)
	defer saving.Stop()
	defer func() {
		if synced == nil {
			s.view.keep(time.Now(), true)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-saving.C:
			if synced == nil { // never a part of a view
				s.view.keep(time.Now(), false)
			}
		case <-s.pending.wake:
			s.step(store)
		case <-away:
			away = nil
			if changes := s.view.restore(); synced != nil && len(changes) > 0 {
				store.Apply(Name, changes)
				store.Synced(Name)
			}
		case <-synced:
			s.step(store)
			if gone := s.view.caughtUp(); len(gone) > 0 {
				store.Apply(Name, gone)
			}
			store.Synced(Name)
			synced = nil
			s.options.Log.Info("first view of the API server is complete")
		}
		pace := time.NewTimer(s.options.Pace)
		select {
		case <-ctx.Done():
			pace.Stop()
			return
		case <-pace.C:
		}
	}
}

func (s *Source) step(store *discovery.Store) {
	if changes, problems, changed := s.pending.take(); changed {
		s.view.note(changes)
		store.Replace(Name, changes, problems)
	}
}
