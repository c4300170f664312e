package snapshot_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// history applies random meshes step by step to a Server whose proxies answer
// late, in any order of the types, reject some of it and reconnect with what
// they have.
//
// The numbers of content tell what a resource is: those that end in 7 are
// rejected by name while the rest of their response is applied, those that end
// in 8 make a client drop their whole response without a name, as Envoy does
// with what does not decode.
type history struct {
	t       *testing.T
	rng     *rand.Rand
	world   *world
	server  *served
	refs    map[int]translate.Refs // what a listener or route of a number points to
	last    int                    // the last number given to a resource
	mayFail bool                   // whether resources to reject are made
	// hostile: most of what is made to be rejected is rejected without a name.
	hostile bool
	proxies []*simulated
	log     []string
}

const (
	badByName  = 7
	badUnnamed = 8
)

// historySeeds, in the environment, is how many histories TestHistory plays.
const historySeeds = "HISTORY_SEEDS"

// failedOnce are seeds of histories that once went wrong.
var failedOnce = []int{
	403, 454, 863, 1012, 1016, 1118, 1282, 1621, 1750, 1963, 2015, 2051, 2677, 2735, 2857, 2858, 2930, 4970,
}

// TestHistory holds the order that the design promises: in no prefix of what
// a proxy acknowledged does a route or a listener point to a cluster that the
// proxy has not, and when all is quiet each proxy has what a fresh server
// would give it, with equal versions.
func TestHistory(t *testing.T) {
	const steps = 120
	seeds := slices.Clone(failedOnce)
	n := 40
	if text := os.Getenv(historySeeds); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", historySeeds, err)
		}
	} else if testing.Short() {
		n = 10
	}
	for seed := range n {
		seeds = append(seeds, seed)
	}
	for _, p := range []string{"delta", "sotw"} {
		for _, seed := range seeds {
			t.Run(fmt.Sprintf("%s/%d", p, seed), func(t *testing.T) {
				runHistory(t, uint64(seed), steps, p == "sotw")
			})
		}
	}
}

func runHistory(t *testing.T, seed uint64, steps int, isSotW bool) {
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), world: newWorld(t), refs: map[int]translate.Refs{}, mayFail: seed%3 != 0, hostile: seed%3 == 2}
	h.edit(func(c *content) {
		h.cluster(c, "c0")
		h.cluster(c, "c1")
		h.route(c, "r0")
		h.listener(c, "l0")
	})
	// Time must not decide: what is late here is late by order alone.
	o := snapshot.Options{AckTimeout: time.Hour, OrderTimeout: time.Hour, WarmTimeout: time.Hour, Requests: 1e6}
	h.server = serve(t, h.world, o)
	for i := range 3 {
		h.proxies = append(h.proxies, h.connect(fmt.Sprint("p", i), isSotW))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(strings.Join(h.log, "\n"))
		}
	})
	for range steps {
		h.step()
	}
	h.edit(h.repair)
	h.settle()
	h.compare(serve(t, h.world, o), isSotW)
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// step does one random thing.
func (h *history) step() {
	p := h.proxies[h.rng.IntN(len(h.proxies))]
	switch n := h.rng.IntN(20); {
	case n < 4:
		h.change()
	case n < 10:
		p.drain()
	case n < 19:
		p.answerOne()
	default:
		p.reconnect()
	}
}

// settle answers everything until nothing comes any more.
func (h *history) settle() {
	h.t.Helper()
	for calm, n := 0, 0; calm < 2; calm, n = calm+1, n+1 {
		if n > 500 {
			h.t.Fatal("it never becomes quiet")
		}
		for _, p := range h.proxies {
			p.drain()
			for p.answerOne() {
				calm = -1
			}
			p.drain() // what was answered has arrived
		}
		h.server.cache.Judged()
	}
	for _, p := range h.proxies {
		if len(p.open) > 0 {
			h.t.Fatalf("%s waits for endpoints of %v before it can acknowledge %v", p.name, p.open[0].cold, p.open[0].response)
		}
	}
}

// compare has every proxy's state be what a fresh server tells a fresh proxy.
func (h *history) compare(s *served, isSotW bool) {
	h.t.Helper()
	fresh := &history{t: h.t, rng: h.rng, world: h.world, server: s, refs: h.refs}
	want := fresh.connect("fresh", isSotW)
	defer want.cancel()
	fresh.proxies = append(fresh.proxies, want)
	fresh.settle()
	for _, p := range h.proxies {
		for _, url := range []string{cds, eds, lds, rds} {
			if got, want := p.summary(url), want.summary(url); got != want {
				h.t.Errorf("%s has %s\n%s, a fresh one\n%s", p.name, short(url), got, want)
			}
			if isSotW && (url == cds || url == lds) && p.version[url] != want.version[url] {
				h.t.Errorf("%s has %s version %s, a fresh one %s", p.name, short(url), p.version[url], want.version[url])
			}
		}
	}
}

func (h *history) edit(f func(c *content)) {
	h.world.edit(func(c *content) {
		f(c)
		h.note("mesh: %v", describe(c))
	})
}

func describe(c *content) string {
	var out []string
	for _, t := range []map[string]int{c.clusters, c.listeners, c.routes} {
		for _, n := range slices.Sorted(maps.Keys(t)) {
			out = append(out, fmt.Sprintf("%s=%d", n, t[n]))
			if refs := c.refs[n]; len(refs.Clusters)+len(refs.Routes) > 0 {
				out = append(out, "->"+strings.Join(append(slices.Clone(refs.Clusters), refs.Routes...), ","))
			}
		}
	}
	return strings.Join(out, " ")
}

// change makes a random step of the mesh.
func (h *history) change() {
	if h.rng.IntN(6) == 0 {
		name := h.pick(h.world.now().clusters, "c")
		h.note("endpoints of %s", name)
		h.world.endpoints(name, fmt.Sprintf("10.1.%d.%d", h.rng.IntN(250), h.rng.IntN(250)))
		return
	}
	h.edit(func(c *content) {
		for range 1 + h.rng.IntN(3) {
			h.mutate(c)
		}
		h.point(c)
	})
}

func (h *history) mutate(c *content) {
	n := h.rng.IntN(8)
	switch h.rng.IntN(8) {
	case 0, 1:
		h.cluster(c, fmt.Sprint("c", n))
	case 2, 3:
		if len(h.named(c.clusters, "c")) > 1 {
			delete(c.clusters, h.pick(c.clusters, "c")) // point leads elsewhere what pointed to it
		}
	case 4:
		h.route(c, fmt.Sprint("r", n%3))
	case 5:
		h.listener(c, fmt.Sprint("l", n%3))
	case 6:
		if len(c.listeners) > 1 {
			name := h.pick(c.listeners, "l")
			if name != "l0" {
				delete(c.listeners, name)
				delete(c.refs, name)
			}
		}
	case 7:
		x := fmt.Sprint("x", n%3) // which nothing points to
		if c.clusters[x] = h.number(true); h.rng.IntN(2) == 0 {
			delete(c.clusters, x)
		}
	}
}

// point leads every route and listener to clusters that there are.
func (h *history) point(c *content) {
	for _, name := range slices.Sorted(maps.Keys(c.routes)) {
		if !all(c.refs[name].Clusters, c.clusters) {
			h.route(c, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.listeners)) {
		if !all(c.refs[name].Clusters, c.clusters) {
			h.listener(c, name)
		}
	}
}

func all(names []string, in map[string]int) bool {
	for _, n := range names {
		if _, ok := in[n]; !ok {
			return false
		}
	}
	return true
}

// repair gives everything that is rejected a new version.
func (h *history) repair(c *content) {
	h.mayFail = false
	for _, name := range slices.Sorted(maps.Keys(c.clusters)) {
		if bad(c.clusters[name]) {
			h.cluster(c, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.routes)) {
		if bad(c.routes[name]) {
			h.route(c, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.listeners)) {
		if bad(c.listeners[name]) {
			h.listener(c, name)
		}
	}
}

func bad(v int) bool { return v%10 == badByName || v%10 == badUnnamed }

// number is that of a new resource, good or, if it may be, bad.
func (h *history) number(mayFail bool) int {
	for {
		h.last++
		if h.hostile && mayFail && h.mayFail && h.rng.IntN(4) == 0 {
			h.last += 10 + badUnnamed - h.last%10
			return h.last
		}
		if !bad(h.last) || mayFail && h.mayFail && h.rng.IntN(2) == 0 {
			return h.last
		}
	}
}

func (h *history) cluster(c *content, name string) { c.clusters[name] = h.number(false) }

// route leads to one or two clusters.
func (h *history) route(c *content, name string) {
	to := []string{h.pick(c.clusters, "c"), h.pick(c.clusters, "c")}
	slices.Sort(to)
	v := h.number(true)
	c.routes[name], c.refs[name] = v, translate.Refs{Clusters: slices.Compact(to)}
	h.refs[v] = c.refs[name]
}

// listener leads to a cluster, a route or both; l0 always to r0, so that a
// proxy never is without routes.
func (h *history) listener(c *content, name string) {
	var r translate.Refs
	if name == "l0" || h.rng.IntN(2) == 0 {
		r.Routes = []string{"r0"}
		if name != "l0" {
			r.Routes = []string{h.pick(c.routes, "r")}
		}
	}
	if len(r.Routes) == 0 || h.rng.IntN(3) == 0 {
		r.Clusters = []string{h.pick(c.clusters, "c")}
	}
	v := h.number(true)
	c.listeners[name], c.refs[name], h.refs[v] = v, r, r
}

func (h *history) named(m map[string]int, prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m)), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

func (h *history) pick(m map[string]int, prefix string) string {
	names := h.named(m, prefix)
	return names[h.rng.IntN(len(names))]
}
