package serve

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/jwks"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// rememberedResources bounds what translation keeps of what it has made, in
// resources.
const rememberedResources = 1 << 17

// NamedSource is a source with the name that it calls itself to the Store.
type NamedSource struct {
	Name string
	discovery.Source
}

// Plane is a control plane without listeners: what sources see becomes what
// the Server sends. It is made by NewPlane and run once.
type Plane struct {
	Store    *discovery.Store
	Cache    *snapshot.Cache
	Server   *snapshot.Server
	Registry *prometheus.Registry

	sources []NamedSource
	keys    *jwks.Fetcher // nil: no keys are fetched
	relayed relay
	lineage lineage // of what is in effect
	hidden  hidden
	mu      sync.Mutex // guards what follows
	watch   []chan struct{}
	between problemsBetween
	reports []func() []config.Problem
	told    struct { // by InEffect
		effect *translate.Effect
		mesh   *config.Mesh
	}
}

// NewPlane wires sources to a Server. Where two sources hold one object, the
// first one named wins. authorize decides on streams, see
// snapshot.Options.Authorize.
func NewPlane(sources []NamedSource, o snapshot.Options) *Plane {
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Name
	}
	translator := translate.NewTranslator(rememberedResources)
	p := &Plane{
		Store:    discovery.NewStore(translate.Check, names...),
		Cache:    snapshot.NewCache(snapshot.Translation(translator)),
		Registry: prometheus.NewRegistry(),
		sources:  sources,
		relayed:  relay{index: translator.Index, changed: make(chan struct{}, 1)},
	}
	p.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o.Registerer, o.Redact = p.Registry, p.hidden.text
	patched := newBootstraps(p.relayed.Mesh, translator.Index)
	p.Report(patched.problems)
	refused := &refusals{mesh: p.relayed.Mesh, connected: func() []snapshot.ProxyStatus { return p.Server.Proxies() }, of: map[string][]string{}}
	p.Report(refused.problems)
	p.Server = snapshot.NewServer(p.Cache, withAnswers(o, map[string]snapshot.Answer{
		refusalType:   refused.answer,
		workloadType:  (&workloads{mesh: p.Store.Mesh}).answer,
		bootstrapType: patched.answer,
	}))
	p.Registry.MustRegister(newPlaneMetrics(p))
	return p
}

// FetchKeys has the Plane fetch the keys of token issuers. It is called before
// Run; without it tokens of issuers whose keys are not in the configuration
// are refused.
func (p *Plane) FetchKeys(o jwks.Options) {
	p.keys = jwks.New(o)
	p.Report(func() []config.Problem { return p.keys.Problems(p.Store.Mesh()) })
}

// Run works until ctx ends, then returns nil; or until a source fails for
// good, then with its error.
func (p *Plane) Run(ctx context.Context) error {
	if p.keys != nil {
		defer p.keys.Close()
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range p.sources {
		g.Go(func() error {
			if err := s.Run(ctx, p.Store); err != nil {
				return fmt.Errorf("source %s: %w", s.Name, err)
			}
			return nil
		})
	}
	g.Go(func() error {
		p.relay(ctx)
		return nil
	})
	g.Go(func() error {
		p.Cache.Run(ctx, &p.relayed)
		return nil
	})
	return g.Wait()
}

// relay is the Store as the Cache sees it: with what is in effect of each
// Mesh.
type relay struct {
	index   func(*config.Mesh) *translate.Index
	effect  atomic.Pointer[translate.Effect]
	changed chan struct{}
}

// Mesh implements snapshot.Meshes.
func (r *relay) Mesh() *config.Mesh {
	if e := r.effect.Load(); e != nil {
		return e.Mesh()
	}
	return nil
}

// Changed implements snapshot.Meshes.
func (r *relay) Changed() <-chan struct{} { return r.changed }

// follow takes the Store's newest Mesh.
func (r *relay) follow(m *config.Mesh) { r.effect.Store(r.effect.Load().Follow(m, r.index)) }

// relay settles what of each Mesh is in effect, and passes the Store's signal,
// which is for one reader, on to the Cache and to every watcher.
func (p *Plane) relay(ctx context.Context) {
	var keys <-chan struct{}
	if p.keys != nil {
		keys = p.keys.Changed()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.Store.Changed():
		case <-keys:
		}
		m := p.Store.Mesh()
		if m == nil {
			continue // keys were there first
		}
		p.hidden.add(m.Settings.Environment)
		if p.keys != nil {
			m = p.keys.With(ctx, m)
		}
		p.relayed.follow(m)
		p.lineage.follow(p.relayed.Mesh())
		signal(p.relayed.changed)
		p.mu.Lock()
		for _, w := range p.watch {
			signal(w)
		}
		p.mu.Unlock()
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// InEffect is what of the newest Mesh is in effect, with a problem for each
// change that waits; nil before there is one. It is the same until something
// changes.
func (p *Plane) InEffect() *config.Mesh {
	e := p.relayed.effect.Load()
	if e == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told.effect != e {
		p.told.effect, p.told.mesh = e, e.Mesh()
		if waits := e.Problems(); len(waits) > 0 {
			b := config.NewBuilder(e.Mesh())
			b.SetProblems(append(slices.Clone(e.Mesh().Problems), waits...))
			p.told.mesh = b.Mesh()
		}
	}
	return p.told.mesh
}

// Watch returns a channel of capacity 1 that receives a value after each
// published Mesh.
func (p *Plane) Watch() <-chan struct{} {
	c := make(chan struct{}, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = append(p.watch, c)
	return c
}

// Report adds what f returns to the Plane's Problems.
func (p *Plane) Report(f func() []config.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports = append(p.reports, f)
}

// Problems are all known problems: the sources', those between objects, what
// waits for others, those of what is served, and reported ones.
func (p *Plane) Problems() []config.Problem {
	m, e := p.Store.Mesh(), p.relayed.effect.Load()
	if m == nil || e == nil {
		return nil
	}
	lists := [][]config.Problem{m.Problems, p.problemsBetween(e.Mesh()), e.Problems(), p.Server.Problems()}
	p.mu.Lock()
	reports := p.reports
	p.mu.Unlock()
	for _, f := range reports {
		lists = append(lists, f())
	}
	seen := map[config.Problem]bool{}
	var out []config.Problem
	for _, list := range lists {
		for _, problem := range list {
			if !seen[problem] {
				seen[problem] = true
				out = append(out, problem)
			}
		}
	}
	p.hidden.problems(out)
	config.SortProblems(out)
	return out
}

// problemsBetween remembers the problems between the objects of one Mesh: to
// find them takes an Index of all of it, and pages ask several times a second.
type problemsBetween struct {
	mesh     *config.Mesh
	problems []config.Problem
}

func (p *Plane) problemsBetween(m *config.Mesh) []config.Problem {
	p.mu.Lock()
	known := p.between
	p.mu.Unlock()
	if known.mesh == m {
		return known.problems
	}
	found := problemsBetween{m, p.relayed.index(m).Problems()}
	p.mu.Lock()
	p.between = found
	p.mu.Unlock()
	return found.problems
}
