package snapshot_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	controlplane "github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// TestSoakOfExamples is TestSoak with real configuration: all examples, read
// from a folder by a whole Plane and translated as ever. Examples come and go,
// documents are taken away, broken and put back, weights change, pods lose
// their addresses; proxies answer late, reject, and reconnect; the Plane is
// replaced by a new one. After each round everything that is left is whole
// again, and soon every proxy must have what a fresh Plane over the same folder
// gives it, byte by byte.
func TestSoakOfExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: make soak runs it")
	}
	length := soakLength(t, 4*time.Second)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %v", seed, length)
	s := newExampleSoak(t, seed)
	rounds, end := 0, time.Now().Add(length)
	for ; rounds < 2 || time.Now().Before(end); rounds++ {
		s.round(rounds)
	}
	if rounds >= 20 && s.compared*2 < rounds {
		t.Errorf("of %d rounds %d ended with a configuration whose references are whole", rounds, s.compared)
	}
	t.Logf("%d rounds, %d of them compared, %d restarts, %d rejections, %d goroutines, %.1f MB of heap",
		rounds, s.compared, s.restarts, s.rejections, runtime.NumGoroutine(), heap())
}

type exampleSoak struct {
	t          *testing.T
	rng        *rand.Rand
	dir        string
	examples   []string
	present    map[string]bool
	documents  []*exampleDocument
	down       atomic.Uint64 // a bit for each of 64 groups of pods without addresses
	now        *running
	live       map[*running]bool // those that run
	proxies    []*follower
	restarts   int
	rejections int
	compared   int // rounds
	bounds     soakBounds
}

// exampleDocument is one YAML document of an example.
type exampleDocument struct{ example, file, text string }

// running is a Plane that serves.
type running struct {
	*served
	source *file.Source
	plane  *controlplane.Plane
}

func newExampleSoak(t *testing.T, seed uint64) *exampleSoak {
	s := &exampleSoak{t: t, rng: rand.New(rand.NewPCG(seed, 2)), dir: t.TempDir(), present: map[string]bool{}, live: map[*running]bool{}}
	t.Cleanup(func() {
		for r := range s.live {
			s.end(r)
		}
	})
	all, err := filepath.Glob("../examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		s.load(path)
	}
	if len(s.examples) < 30 {
		t.Fatalf("there are %d examples", len(s.examples))
	}
	s.repair()
	s.now = s.start()
	for i, n := range []struct{ kind, namespace, labels string }{
		{"router", "istio-system", "istio=ingressgateway"}, {"router", "istio-system", "istio=ingressgateway"},
		{"sidecar", "default", "app=myapp,version=v1"}, {"sidecar", "shop", "app=reviews,version=v2"},
		{"sidecar", "foo", "app=httpbin"}, {"sidecar", "default", "app=reviews,version=v1"},
		{"router", "istio-system", "istio=egressgateway"}, {"sidecar", "shop", "app=front"},
	} {
		p := &follower{soak: s, name: fmt.Sprint("p", i), kind: n.kind, namespace: n.namespace, labels: map[string]any{}, isSotW: i%2 == 1}
		for l := range strings.SplitSeq(n.labels, ",") {
			k, v, _ := strings.Cut(l, "=")
			p.labels[k] = v
		}
		p.connect(s.now)
		s.proxies = append(s.proxies, p)
	}
	return s
}

// load reads the documents of one of an example's files.
func (s *exampleSoak) load(path string) {
	s.t.Helper()
	example := filepath.Base(filepath.Dir(path))
	if !slices.Contains(s.examples, example) {
		s.examples = append(s.examples, example)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, text := range strings.Split(string(b), "\n---\n") {
		name := fmt.Sprintf("%s-%s-%d.yaml", example, strings.TrimSuffix(filepath.Base(path), ".yaml"), i)
		s.documents = append(s.documents, &exampleDocument{example, filepath.Join(s.dir, name), text})
	}
}

// start runs a Plane over the folder, until the test ends or stop.
func (s *exampleSoak) start() *running {
	s.t.Helper()
	// Time must not decide, as in newSoak, but for one thing: who connects again
	// and has no routes says nothing about routes, and keeps clusters that are
	// gone until OrderTimeout.
	o := snapshot.Options{AckTimeout: time.Hour, OrderTimeout: time.Second, WarmTimeout: time.Hour, Requests: 1e6}
	r := &running{source: file.New([]string{s.dir}, file.WithAddresses(s.addresses))}
	plane := controlplane.NewPlane([]controlplane.NamedSource{{Name: file.Name, Source: r.source}}, o)
	r.plane = plane
	r.served = &served{t: s.t, cache: plane.Cache, server: plane.Server, grpc: grpc.NewServer(o.GRPC()...), clients: map[*client]struct{}{}}
	plane.Server.Register(r.grpc)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	g := r.grpc
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := plane.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	ran.Go(func() { _ = g.Serve(l) })
	r.stopCache = func() { cancel(); ran.Wait() }
	s.live[r] = true
	return r
}

// whole reports whether all references of the configuration are. While some are
// broken, what is in effect may depend on what came first.
func (r *running) whole() bool {
	return !slices.ContainsFunc(r.plane.Problems(), func(p config.Problem) bool {
		return p.Code == "HostNotFound" || p.Code == "PortNotFound" || p.Code == "SubsetNotFound"
	})
}

// end stops a Plane, and forgets it.
func (s *exampleSoak) end(r *running) {
	r.stop()
	delete(s.live, r)
}

// addresses is what the pods of the folder are given: the same at every Plane.
func (s *exampleSoak) addresses(pod config.Key, _ map[string]string) []string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pod.Namespace + "/" + pod.Name))
	n := h.Sum32()
	if s.down.Load()&(1<<(n%64)) != 0 {
		return nil
	}
	return []string{fmt.Sprintf("10.%d.%d.%d", n>>16&0xff, n>>8&0xff, 1+n%250)}
}

// write replaces a file as editors do; the text "" removes it.
func (s *exampleSoak) write(path, text string) {
	s.t.Helper()
	var err error
	if text == "" {
		if err = os.Remove(path); os.IsNotExist(err) {
			err = nil
		}
	} else if err = os.WriteFile(path+".new", []byte(text), 0o600); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

var (
	aWeight    = regexp.MustCompile(`weight: \d+`)
	aBadNumber = 13
)

// step is one thing that happens.
func (s *exampleSoak) step() {
	p, d := s.proxies[s.rng.IntN(len(s.proxies))], s.documents[s.rng.IntN(len(s.documents))]
	switch n := s.rng.IntN(20); {
	case n < 6:
		p.answerOne()
	case n < 11:
		p.drain()
	case n < 12:
		p.reconnect()
	case n < 13:
		s.write(d.file, "")
	case n < 14 && s.present[d.example]:
		s.write(d.file, d.text)
	case n < 15 && s.present[d.example]:
		s.write(d.file, "spec: [\n"+d.text)
	case n < 17:
		s.reweigh()
	case n < 18:
		s.down.Store(s.rng.Uint64() & s.rng.Uint64())
		s.now.source.Refresh()
	case n < 19:
		s.number(aBadNumber)
	default:
		s.number(s.rng.IntN(10))
	}
}

// reweigh gives other weights to the routes of one document that has some.
func (s *exampleSoak) reweigh() {
	for _, i := range s.rng.Perm(len(s.documents)) {
		if d := s.documents[i]; s.present[d.example] && aWeight.MatchString(d.text) {
			d.text = aWeight.ReplaceAllStringFunc(d.text, func(string) string { return fmt.Sprint("weight: ", 1+s.rng.IntN(99)) })
			s.write(d.file, d.text)
			return
		}
	}
}

// number writes the one service that is not of the examples: proxies reject
// the cluster and the routes that have aBadNumber.
func (s *exampleSoak) number(n int) {
	s.write(filepath.Join(s.dir, "soak.yaml"), fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: soak}
spec: {selector: {app: myapp}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: soak}
spec: {host: soak, trafficPolicy: {connectionPool: {tcp: {connectTimeout: %[1]ds}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: soak}
spec:
  hosts: [soak]
  http: [{headers: {request: {set: {x-soak: number-%[1]d.}}}, route: [{destination: {host: soak}}]}]
`, n+1))
}

// repair makes everything whole: some examples are there, others are not.
func (s *exampleSoak) repair() {
	for _, e := range s.examples {
		s.present[e] = s.rng.IntN(3) > 0
	}
	for _, d := range s.documents {
		if s.present[d.example] {
			s.write(d.file, d.text)
		} else {
			s.write(d.file, "")
		}
	}
	s.number(20 + s.rng.IntN(1000))
}

// round is churn, quiet and the oracle.
func (s *exampleSoak) round(n int) {
	for range 100 {
		s.step()
	}
	s.repair()
	fresh := s.start()
	want := make([]*follower, len(s.proxies))
	for i, p := range s.proxies {
		twin := *p
		want[i] = &twin
		want[i].connect(fresh)
	}
	envoytest.Eventually(s.t, 3*patience, func() string {
		s.settle(fresh, want)
		s.settle(s.now, s.proxies)
		if !fresh.whole() {
			return ""
		}
		for i, p := range s.proxies {
			if d := p.difference(want[i]); d != "" {
				return d
			}
		}
		return ""
	})
	if fresh.whole() {
		s.compared++
	}
	if n == 0 && len(want[2].have[cds]) < 10 {
		s.t.Fatalf("a sidecar has %d clusters", len(want[2].have[cds]))
	}
	s.end(fresh)
	if s.rng.IntN(3) == 0 {
		s.restarts++
		old := s.now
		s.now = s.start()
		for _, p := range s.proxies {
			p.reconnect()
		}
		s.end(old)
		s.settle(s.now, s.proxies)
	}
	s.bounds.hold(s.t, n)
}

// settle answers everything until nothing comes any more.
func (s *exampleSoak) settle(r *running, proxies []*follower) {
	s.t.Helper()
	for calm, n := 0, 0; calm < 2; calm, n = calm+1, n+1 {
		if n > 500 {
			s.t.Fatal("it never becomes quiet")
		}
		for _, p := range proxies {
			p.drain()
			for p.answerOne() {
				calm = -1
			}
			p.drain()
		}
		r.cache.Judged()
	}
}
