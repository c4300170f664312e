package rollout

import (
	"math"
	"strings"
	"testing"
	"time"
)

// The figures are those of statistical tables: a binomial tail, and Fisher's
// exact test.
func TestTail(t *testing.T) {
	for _, c := range []struct{ k, n, p, want float64 }{
		{1, 1, 0.01, 0.01},
		{2, 10, 0.1, 1 - math.Pow(0.9, 10) - 10*0.1*math.Pow(0.9, 9)},
		{3, 100, 0.01, 0.0793732},
		{5, 100, 0.01, 0.0034323},
		{1, 10, 0, 0},
		{10, 10, 0.5, 1.0 / 1024},
	} {
		if got := tail(c.k, c.n, c.p); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("P(K >= %v | %v, %v) is %v, want %v", c.k, c.n, c.p, got, c.want)
		}
	}
	if got := tail(1_000_000, 2_000_000, 0.499); !(got > 0.002 && got < 0.003) { // z = 2.83
		t.Errorf("of millions it is %v", got)
	}
}

func TestWorse(t *testing.T) {
	for _, c := range []struct {
		k, n, k0, n0 float64
		want         bool
	}{
		{3, 4, 1, 4, false}, // the lady tasting tea: 0.243
		{4, 4, 0, 4, false}, // 1/70 = 0.0143
		{5, 5, 0, 5, true},  // 1/252 = 0.0040
		{10, 1000, 10, 1000, false},
		{30, 1000, 10, 1000, true},
		{0, 100, 50, 100, false},
		{0, 0, 0, 0, false},
		{1, 100, 0, 1_000_000, true}, // 0.0001
	} {
		if got := worse(c.k, c.n, c.k0, c.n0); got != c.want {
			t.Errorf("%v of %v worse than %v of %v: %v", c.k, c.n, c.k0, c.n0, got)
		}
	}
}

// requests are counts with some failures, and durations that are all in one
// bucket but for some slow ones.
func requests(n, errors, slow float64) *counts {
	return &counts{requests: n, errors: errors, buckets: map[float64]float64{
		100: n - slow, 250: n - slow, 500: n - slow, 1000: n, math.Inf(1): n,
	}}
}

func TestJudge(t *testing.T) {
	type of = map[string]*counts
	plan := Plan{MaxErrorRate: 0.01, MaxErrorIncrease: 0.005, MaxP99: 500 * time.Millisecond, MinRequests: 100}
	for name, c := range map[string]struct {
		plan     func(*Plan)
		new, old of
		want     verdict
		says     string
	}{
		"nothing":                {want: hold, says: "no data about the new version"},
		"one failure of one":     {new: of{"source": requests(1, 1, 0)}, want: hold, says: "1 requests to the new version, of 100"},
		"all well":               {new: of{"source": requests(100, 0, 0)}, want: pass},
		"as many as allowed":     {new: of{"source": requests(100, 1, 1)}, want: pass},
		"two of a hundred":       {new: of{"source": requests(100, 2, 0)}, want: hold, says: "too few to tell whether that is more than 1%"},
		"five of a hundred":      {new: of{"source": requests(100, 5, 0)}, want: breach, says: "5% of 100 requests failed, more than 1% (as the clients' proxies tell)"},
		"two of a hundred, long": {new: of{"source": requests(1000, 20, 0)}, want: breach, says: "2% of 1000"},
		"slow":                   {new: of{"destination": requests(100, 0, 5)}, want: breach, says: "the 99th percentile is 900 ms, more than 500ms (as the servers' proxies tell)"},
		"a little slow":          {new: of{"destination": requests(100, 0, 2)}, want: hold, says: "too few"},
		"no durations":           {new: of{"destination": {requests: 100, buckets: map[float64]float64{}}}, want: hold, says: "no durations"},
		"one reporter's failures": {
			new: of{"destination": requests(1000, 0, 0), "source": requests(1000, 50, 0)}, want: breach, says: "clients' proxies",
		},
		"worse than before": {
			plan: func(p *Plan) { p.MaxErrorRate = 0.5 },
			new:  of{"source": requests(1000, 30, 0)}, old: of{"source": requests(1000, 10, 0)}, want: breach, says: "3% of 1000 requests failed, and 1% of the old version's",
		},
		"worse by chance": {
			plan: func(p *Plan) { p.MaxErrorRate = 0.5 },
			new:  of{"source": requests(100, 3, 0)}, old: of{"source": requests(100, 1, 0)}, want: pass,
		},
		"worse by little": {
			plan: func(p *Plan) { p.MaxErrorRate = 0.5 },
			new:  of{"source": requests(1e6, 4000, 0)}, old: of{"source": requests(1e6, 1000, 0)}, want: pass,
		},
		"no failure is allowed": {
			plan: func(p *Plan) { p.MaxErrorRate = 0 }, new: of{"source": requests(100, 1, 0)}, want: breach, says: "more than 0%",
		},
		"no limits but one": {
			plan: func(p *Plan) { p.MaxErrorRate, p.MaxP99 = -1, 0 }, new: of{"source": requests(100, 90, 90)}, want: pass,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan
			if c.plan != nil {
				c.plan(&p)
			}
			got, why := p.judge(&observation{new: c.new, old: c.old})
			if got != c.want || !strings.Contains(why, c.says) || (c.want == pass) != (why == "") {
				t.Errorf("%v: %q, want %v: %q", got, why, c.want, c.says)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	c := &counts{buckets: map[float64]float64{100: 0, 200: 50, 400: 100, math.Inf(1): 100}}
	if got, ok := c.p99(); !ok || math.Abs(got-396) > 1e-9 {
		t.Errorf("p99 is %v, want 396", got)
	}
	for limit, want := range map[float64]float64{50: 100, 150: 75, 200: 50, 300: 25, 400: 0, 1000: 0} {
		if got := c.slower(limit); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v are slower than %v, want %v", got, limit, want)
		}
	}
	beyond := &counts{buckets: map[float64]float64{100: 90, math.Inf(1): 100}}
	if got := beyond.slower(5000); got != 10 {
		t.Errorf("beyond the last bound, %v may be slower, want 10", got)
	}
	if _, ok := (&counts{}).p99(); ok {
		t.Error("there is a percentile of nothing")
	}
}

// Counters are subtracted one by one: what begins counts whole, what begins
// anew counts from zero, what goes away counts no more.
func TestObservation(t *testing.T) {
	key := func(instance string, failed bool) series {
		return series{new: true, reporter: "source", failed: failed, instance: instance}
	}
	o := observe(map[series]float64{key("a", false): 1000, key("b", false): 500})
	o.add(map[series]float64{key("a", false): 1010, key("b", false): 500, key("a", true): 7})
	o.add(map[series]float64{key("a", false): 4, key("a", true): 7}) // a restarted, b is gone
	o.add(map[series]float64{key("a", false): 5, key("b", false): 501, key("a", true): 7})
	if c := o.new["source"]; c.requests != 10+7+4+1+1 || c.errors != 7 {
		t.Errorf("%v requests, %v failed", c.requests, c.errors)
	}
}
