package meshtest

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Engine answers the requests of cases.
type Engine interface {
	// Name is sim or envoy.
	Name() string
	// Ask answers one query. The error is about the query, or about the
	// engine itself. It is called from several goroutines.
	Ask(q *simulate.Query) (*simulate.Answer, error)
}

// Sourced is an Engine whose clients outside have an address of their own,
// unless a case says which.
type Sourced interface{ Source() netip.Addr }

// Simulator is the Engine of package simulate.
type Simulator struct {
	World *simulate.World
	// Outside is the address of clients outside; that of package simulate if
	// it is not valid.
	Outside netip.Addr
}

// Name implements Engine.
func (Simulator) Name() string { return "sim" }

// Ask implements Engine.
func (s Simulator) Ask(q *simulate.Query) (*simulate.Answer, error) {
	if s.Outside.IsValid() && !q.Source.IsValid() && s.World.FromOutside(q.From) {
		own := *q
		own.Source = s.Outside
		q = &own
	}
	return s.World.Ask(q)
}

// Result is what became of one case.
type Result struct {
	Case *Case
	// Failed lists what is not as expected.
	Failed []string
	// Err is why the case could not run.
	Err error
	// Unknown are constructs that the simulator does not know.
	Unknown []string
	// Counterexample is the request that breaks an invariant; Tried is the
	// number of requests that were tried.
	Counterexample string
	Tried          int
	Duration       time.Duration

	answers []*simulate.Answer
}

// Passed reports whether the case ran and nothing failed.
func (r *Result) Passed() bool { return r.Err == nil && len(r.Failed) == 0 }

// Answers are the answers that decided the case.
func (r *Result) Answers() []*simulate.Answer { return r.answers }

// Run runs the cases whose names match run (nil: all), in parallel. Results
// come in the order of the cases.
func Run(e Engine, w *simulate.World, cases []*Case, run *regexp.Regexp) []*Result {
	var list []*Case
	for _, c := range cases {
		if run == nil || run.MatchString(c.Name) {
			list = append(list, c)
		}
	}
	out := make([]*Result, len(list))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(len(list), 2*runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := range next {
				began := time.Now()
				out[i] = runCase(e, w, list[i])
				out[i].Duration = time.Since(began)
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	workers.Wait()
	return out
}

func runCase(e Engine, w *simulate.World, c *Case) *Result {
	if c.Forall != nil {
		return runForall(e, w, c)
	}
	r := &Result{Case: c, Tried: 1}
	q := c.query()
	if c.From.Gateway == anyGateway {
		from, ok := w.Serves(q)
		if !ok && q.From == c.From.String() {
			if e := &c.Expect; e.Not == nil && (e.matched == nil || *e.matched) {
				r.Failed = []string{"wantMatch: no VirtualService has a rule in effect for the host of " + q.URL}
			}
			return r
		}
		q.From = from
	}
	a, err := e.Ask(q)
	if err != nil {
		r.Err = err
		return r
	}
	r.answers = []*simulate.Answer{a}
	r.Failed, r.Unknown = c.Expect.check(a), a.Unknown
	return r
}

func (c *Case) query() *simulate.Query {
	q := &simulate.Query{
		From: c.From.String(), URL: c.Request.URL, Method: c.Request.Method, Claims: c.Request.JWT,
		HTTP2: c.Request.HTTP2, SNI: c.Request.SNI, Certificate: c.Request.ClientCertificate, Source: c.From.source,
	}
	for _, name := range sortedKeys(c.Request.Headers) {
		q.Header = append(q.Header, simulate.Field{Name: name, Value: c.Request.Headers[name]})
	}
	return q
}

// runForall tries an invariant with every request that the configuration
// tells apart.
func runForall(e Engine, w *simulate.World, c *Case) *Result {
	r := &Result{Case: c}
	clients := w.Clients(c.Forall.From.Workload, c.Forall.From.Namespace)
	targets := w.Targets(c.Forall.To.Service, c.Forall.To.Namespace)
	if len(clients) == 0 {
		r.Err = fmt.Errorf("no workload is in forall.from %s", strings.TrimSpace(c.Forall.From.Workload+" "+c.Forall.From.Namespace))
		return r
	}
	if len(targets) == 0 {
		r.Err = fmt.Errorf("no service is in forall.to %s", strings.TrimSpace(c.Forall.To.Service+" "+c.Forall.To.Namespace))
		return r
	}
	for _, from := range clients {
		for _, to := range targets {
			for _, q := range w.Explore(from, to) {
				a, err := e.Ask(q)
				if err != nil {
					r.Err = err
					return r
				}
				r.Tried++
				r.answers = append(r.answers, a)
				if failed := c.Expect.check(a); len(failed) > 0 {
					r.Failed, r.Counterexample = failed, q.String()
					r.Unknown = a.Unknown
					return r
				}
			}
		}
	}
	return r
}

// AnyClient reports whether the case is about a host, whoever serves it.
func (c *Case) AnyClient() bool { return c.From.Gateway == anyGateway }

// Agreed joins the results of two engines, case by case: what one says and
// the other does not is a failure of its own.
func Agreed(sim, real []*Result) []*Result {
	out := make([]*Result, len(sim))
	for i, s := range sim {
		r := *s
		if i < len(real) {
			r.Failed = append(slices.Clone(s.Failed), disagreement(s, real[i])...)
			if r.Err == nil && !errors.Is(real[i].Err, ErrNotHere) {
				r.Err = real[i].Err
			}
		}
		out[i] = &r
	}
	return out
}

// disagreement compares what two engines say about one case.
func disagreement(sim, real *Result) []string {
	if sim.Err != nil || real.Err != nil {
		return nil
	}
	if len(sim.Failed) == 0 && len(real.Failed) > 0 {
		out := make([]string, len(real.Failed))
		for i, f := range real.Failed {
			out[i] = "a real Envoy disagrees: " + f
		}
		return out
	}
	if len(sim.Failed) > 0 && len(real.Failed) == 0 {
		return []string{"a real Envoy disagrees: there the case passes"}
	}
	return nil
}

// ErrNotHere is wrapped by errors about cases that an engine cannot run: they
// are left to the other one.
var ErrNotHere = errors.New("not with a real Envoy")
