package rollout

import (
	"fmt"
	"math"
	"slices"
)

// doubt is how improbable counts must be, for a version that keeps a limit,
// before they count as proof that it does not.
const doubt = 0.01

// slowShare is the share of requests that may be slower than a limit of the
// 99th percentile.
const slowShare = 0.01

type verdict int

const (
	hold   verdict = iota // not enough is known
	pass                  // all limits are kept
	breach                // a limit is broken beyond doubt
)

// judge compares what was observed with a Plan's limits. The reason says why
// it is no pass.
func (p *Plan) judge(o *observation) (verdict, string) {
	var reporters []string
	for r := range o.new {
		reporters = append(reporters, r)
	}
	slices.Sort(reporters)
	if len(reporters) == 0 {
		return hold, errNoData.Error()
	}
	said, most := 0, 0.0
	var why string
	for _, r := range reporters {
		c := o.new[r]
		most = max(most, c.requests)
		if c.requests < float64(p.MinRequests) {
			continue
		}
		v, reason := p.judgeOne(c, o.old[r])
		switch v {
		case breach:
			return breach, reason + " (as the " + reporterName(r) + " tell)"
		case hold:
			why = reason
		case pass:
		}
		said++
	}
	switch {
	case why != "":
		return hold, why
	case said == 0:
		return hold, fmt.Sprintf("%.0f requests to the new version, of %d for a verdict", most, p.MinRequests)
	default:
		return pass, ""
	}
}

func reporterName(r string) string {
	if r == "source" {
		return "clients' proxies"
	}
	return "servers' proxies"
}

// judgeOne judges what one reporter saw. old may be nil.
func (p *Plan) judgeOne(c, old *counts) (verdict, string) {
	worst, why := pass, ""
	note := func(v verdict, format string, args ...any) {
		if v == breach && worst != breach || v == hold && worst == pass {
			worst, why = v, fmt.Sprintf(format, args...)
		}
	}
	rate := share(c.errors, c.requests)
	if p.MaxErrorRate >= 0 {
		switch v := within(c.errors, c.requests, p.MaxErrorRate); v {
		case breach:
			note(v, "%s of %.0f requests failed, more than %s", percent(rate), c.requests, percent(p.MaxErrorRate))
		case hold:
			note(v, "%s of %.0f requests failed: too few to tell whether that is more than %s", percent(rate), c.requests, percent(p.MaxErrorRate))
		case pass:
		}
	}
	if old != nil && p.MaxErrorIncrease >= 0 && old.requests >= float64(p.MinRequests) {
		before := share(old.errors, old.requests)
		if rate-before > p.MaxErrorIncrease && worse(c.errors, c.requests, old.errors, old.requests) {
			note(breach, "%s of %.0f requests failed, and %s of the old version's", percent(rate), c.requests, percent(before))
		}
	}
	if p.MaxP99 > 0 {
		limit := float64(p.MaxP99.Microseconds()) / 1000
		p99, timed := c.p99()
		switch v := within(math.Round(c.slower(limit)), c.timed(), slowShare); {
		case !timed:
			note(hold, "no durations of requests to the new version are known")
		case v == breach:
			note(v, "the 99th percentile is %.0f ms, more than %v", p99, p.MaxP99)
		case v == hold:
			note(v, "the 99th percentile of %.0f requests is %.0f ms: too few to tell whether that is more than %v", c.timed(), p99, p.MaxP99)
		}
	}
	return worst, why
}

// within judges k events of n against a limit of their share: a breach if a
// version that keeps the limit has so many with a probability below doubt, a
// pass if they are no larger a share, and else undecided.
func within(k, n, limit float64) verdict {
	switch {
	case k > 0 && tail(k, n, limit) < doubt:
		return breach
	case k <= n*limit:
		return pass
	default:
		return hold
	}
}

// tail is the probability of k or more events in n trials of probability p.
func tail(k, n, p float64) float64 {
	if k <= n*p {
		return 1 // about a half at least; nobody asks more precisely
	}
	if p <= 0 {
		return 0
	}
	// The terms fall from k on, geometrically.
	term := math.Exp(choose(n, k) + k*math.Log(p) + (n-k)*math.Log1p(-p))
	sum := 0.0
	for i := k; i <= n && term > sum*1e-12; i++ {
		sum += term
		term *= (n - i) / (i + 1) * p / (1 - p)
	}
	return min(sum, 1)
}

// worse reports whether k of n is a larger share than k0 of n0 beyond doubt,
// by Fisher's exact test: the probability that so many of all events fall to
// the first if there is no difference.
func worse(k, n, k0, n0 float64) bool {
	all := k + k0
	if n == 0 || n0 == 0 || k*n0 <= k0*n {
		return false
	}
	sum := 0.0
	for i := k; i <= min(all, n); i++ {
		term := math.Exp(choose(n, i) + choose(n0, all-i) - choose(n+n0, all))
		sum += term
		if sum >= doubt {
			return false
		}
		if term < sum*1e-12 {
			break
		}
	}
	return true
}

// choose is the logarithm of the binomial coefficient.
func choose(n, k float64) float64 {
	if k < 0 || k > n {
		return math.Inf(-1)
	}
	a, _ := math.Lgamma(n + 1)
	b, _ := math.Lgamma(k + 1)
	c, _ := math.Lgamma(n - k + 1)
	return a - b - c
}

func share(k, n float64) float64 {
	if n == 0 {
		return 0
	}
	return k / n
}

func percent(share float64) string { return fmt.Sprintf("%.3g%%", 100*share) }
