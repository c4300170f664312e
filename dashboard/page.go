package dashboard

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Page is one web page and its data. It is an http.Handler whose paths are
// relative, so that it can be mounted below any prefix with http.StripPrefix.
type Page struct {
	o       Options
	boot    string
	feed    *feed
	handler http.Handler

	// Owned by Run.
	from    time.Time // of the next second to fetch
	known   series
	stale   bool // known has changed since the routes were derived
	history map[string][]weightsAt

	mu    sync.Mutex // guards what Run writes and requests read
	shown shown
}

// shown is the configuration that the page shows: what an edit starts from.
type shown struct {
	mesh   *config.Mesh
	routes []routeView
}

// New returns a Page, which shows nothing before Run.
func New(o Options) *Page {
	p := &Page{o: o, boot: rand.Text()[:8], feed: newFeed(), known: series{}, history: map[string][]weightsAt{}}
	p.handler = p.routes()
	return p
}

// Handler is a Page that is run until ctx ends.
func Handler(ctx context.Context, o Options) http.Handler {
	p := New(o)
	go p.Run(ctx)
	return p
}

// ServeHTTP answers requests of browsers on this machine; others are refused.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

const (
	// tick is how often the sources are read while a page is open: what
	// changes faster is coalesced.
	tick = 250 * time.Millisecond
	// idleTicks is how many ticks pass between two readings otherwise.
	idleTicks = 4
)

// Run reads the sources until ctx ends; all streams to browsers end then. End
// ctx before http.Server.Shutdown, which waits for the streams. Call it once.
func (p *Page) Run(ctx context.Context) {
	defer p.feed.close()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%idleTicks == 0 || p.feed.watched() {
			p.sample(time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sample reads every source once and publishes what is new.
func (p *Page) sample(now time.Time) {
	sections := map[string][]byte{}
	seconds := p.readTraffic()
	p.readRoutes(now)
	sections["routes"] = encode(map[string]any{"routes": p.shown.routes})
	if p.o.Proxies != nil {
		sections["proxies"] = encode(map[string]any{"proxies": viewProxies(p.o.Proxies.Proxies())})
	}
	if p.o.Problems != nil {
		sections["problems"] = encode(map[string]any{"problems": viewProblems(p.o.Problems.Problems())})
	}
	if p.o.Changes != nil {
		sections["changes"] = encode(map[string]any{"changes": viewChanges(p.o.Changes.Changes(), p.shown.mesh)})
	}
	p.feed.update(sections, seconds)
}

// readTraffic fetches the seconds since the last time and learns who answers.
func (p *Page) readTraffic() []json.RawMessage {
	if p.o.Traffic == nil {
		return nil
	}
	var out []json.RawMessage
	for _, s := range p.o.Traffic.Seconds(p.from) {
		if s.Start.Before(p.from) || !s.End.After(s.Start) {
			continue
		}
		p.from = s.End
		for _, a := range s.Answers {
			if name := seriesName(a); p.known[name] == nil {
				p.known[name] = map[string]string{}
				p.stale = true
			}
		}
		out = append(out, encode(viewSecond(s)))
	}
	return out
}

// readRoutes derives the routes again if the mesh changed.
func (p *Page) readRoutes(now time.Time) {
	mesh := p.o.Meshes.Mesh()
	if mesh == nil || (mesh == p.shown.mesh && !p.stale) {
		return
	}
	p.stale = false
	p.known.learn(mesh)
	routes := routesOf(mesh, p.known, p.o.Weights != nil)
	history := map[string][]weightsAt{}
	for i := range routes {
		r := &routes[i]
		r.History = extendHistory(p.history[r.ID], *r, now)
		history[r.ID] = r.History
	}
	p.history = history
	p.setShown(shown{mesh, routes})
}

// extendHistory returns h with the route's present weights. A route with other
// destinations than before starts anew.
func extendHistory(h []weightsAt, r routeView, now time.Time) []weightsAt {
	entry := weightsAt{At: unix(now)}
	for _, d := range r.Destinations {
		entry.Percents = append(entry.Percents, d.Percent)
	}
	if len(h) > 0 && len(h[0].Percents) != len(entry.Percents) {
		h = nil
	}
	if len(h) > 0 && slices.Equal(h[len(h)-1].Percents, entry.Percents) {
		return h
	}
	// The entry before the kept time is what was in effect at its start.
	for len(h) > 1 && h[1].At < entry.At-keptSeconds {
		h = h[1:]
	}
	return append(slices.Clone(h), entry)
}

func (p *Page) setShown(s shown) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = s
}

func (p *Page) getShown() shown {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown
}

// view describes the page itself.
func (p *Page) view() pageView {
	v := pageView{
		Boot: p.boot, Title: p.o.Title, Now: unix(time.Now()), Keep: keptSeconds,
		Writable: p.o.Weights != nil, Sections: []string{"routes"},
	}
	for name, there := range map[string]bool{
		"proxies": p.o.Proxies != nil, "problems": p.o.Problems != nil,
		"changes": p.o.Changes != nil, "traffic": p.o.Traffic != nil,
	} {
		if there {
			v.Sections = append(v.Sections, name)
		}
	}
	slices.Sort(v.Sections)
	return v
}

// encode cannot fail on this package's views: they hold no cycles, channels,
// NaN or foreign marshalers but Severity's, which never fails.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("dashboard: " + err.Error())
	}
	return b
}
