package up

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// Load is a steady stream of requests and what came of them. Its methods may
// be called from any goroutine.
type Load struct {
	rate   int
	client *http.Client
	target func() (url, host string, ok bool)

	mu      sync.Mutex // guards what follows
	current *second
	kept    []Second // finished, oldest first
}

// Second is what one second's requests came to. A request counts in the
// second in which it was answered.
type Second struct {
	Start, End time.Time
	Answers    []Answers // by namespace and workload
	// Unanswered are requests that no workload answered: a proxy's own error,
	// a refused connection, a timeout.
	Unanswered int
	LastError  string // of one of the failed requests, or empty
}

// Answers are the requests that one workload answered.
type Answers struct {
	Namespace, Workload, Version string
	Requests                     int // failed ones included
	Errors                       int // 5xx
	P50, P99                     time.Duration
}

type second struct {
	start      time.Time
	answers    map[answerer]*tally
	unanswered int
	lastError  string
}

type answerer struct{ namespace, workload, version string }

type tally struct {
	errors    int
	latencies []time.Duration
}

const (
	keptSeconds    = 900
	requestTimeout = 10 * time.Second
	// inFlightSeconds bounds the requests in flight to what this many seconds
	// of the rate are.
	inFlightSeconds = 10
)

// newLoad sends rate requests a second to what target says; while it says
// nothing, none.
func newLoad(rate int, target func() (url, host string, ok bool)) *Load {
	return &Load{
		rate: rate, target: target,
		client: &http.Client{
			Timeout:       requestTimeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: rate, MaxIdleConns: rate},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// run sends until ctx ends and every request has come back.
func (l *Load) run(ctx context.Context) {
	defer l.client.CloseIdleConnections()
	var flying sync.WaitGroup
	defer flying.Wait()
	slots := make(chan struct{}, l.rate*inFlightSeconds)
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
	defer tick.Stop()
	l.begin(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.turn(now)
			url, host, ok := l.target()
			if !ok {
				continue
			}
			select {
			case slots <- struct{}{}:
				flying.Go(func() {
					defer func() { <-slots }()
					l.one(ctx, url, host)
				})
			default:
				l.fail("more requests in flight than the rate sends in 10 seconds")
			}
		}
	}
}

func (l *Load) one(ctx context.Context, url, host string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		l.fail(err.Error())
		return
	}
	if host != "" {
		req.Host = host
	}
	start := time.Now()
	resp, err := l.client.Do(req)
	if ctx.Err() != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return // cut off by the end: says nothing
	}
	if err != nil {
		l.fail(err.Error())
		return
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	_ = resp.Body.Close()
	took := time.Since(start)
	who := answerer{resp.Header.Get(echo.NamespaceHeader), resp.Header.Get(echo.WorkloadHeader), resp.Header.Get(echo.VersionHeader)}
	if who.workload == "" {
		l.fail(fmt.Sprintf("%s from a proxy: %s", resp.Status, body))
		return
	}
	l.count(who, took, resp.StatusCode >= 500, resp.Status)
}

func (l *Load) fail(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.unanswered++
	l.current.lastError = why
}

func (l *Load) count(who answerer, took time.Duration, failed bool, status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.current.answers[who]
	if t == nil {
		t = &tally{}
		l.current.answers[who] = t
	}
	t.latencies = append(t.latencies, took)
	if failed {
		t.errors++
		l.current.lastError = status + " from " + who.workload
	}
}

func (l *Load) begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = &second{start: now, answers: map[answerer]*tally{}}
}

// turn finishes the current second when it is over.
func (l *Load) turn(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.current.start) < time.Second {
		return
	}
	if len(l.kept) == keptSeconds {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, l.current.finish(now))
	l.current = &second{start: now, answers: map[answerer]*tally{}}
}

func (s *second) finish(now time.Time) Second {
	out := Second{Start: s.start, End: now, Unanswered: s.unanswered, LastError: s.lastError}
	for who, t := range s.answers {
		slices.Sort(t.latencies)
		n := len(t.latencies)
		out.Answers = append(out.Answers, Answers{
			Namespace: who.namespace, Workload: who.workload, Version: who.version,
			Requests: n, Errors: t.errors, P50: t.latencies[n/2], P99: t.latencies[n*99/100],
		})
	}
	slices.SortFunc(out.Answers, func(a, b Answers) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// Seconds returns the finished seconds that started at or after from, oldest
// first. Fifteen minutes are kept.
func (l *Load) Seconds(from time.Time) []Second {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.kept, from, func(s Second, t time.Time) int { return s.Start.Compare(t) })
	return slices.Clone(l.kept[i:])
}
