package snapshot_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const (
	benchProxies  = 500
	benchServices = 500
)

// scale is a synthetic mesh of the size that docs/performance.md measures:
// each service has two ports, so two clusters, and one listener; one route
// table holds all of them. Sizes are those of istiod's resources.
type scale struct {
	mu      sync.Mutex
	mesh    *config.Mesh
	changed chan struct{}
	states  map[*config.Mesh]scaleState
	sets    map[scaleState]*translate.Resources
}

type scaleState struct{ services, route int }

func newScale() *scale {
	s := &scale{changed: make(chan struct{}, 1), states: map[*config.Mesh]scaleState{}, sets: map[scaleState]*translate.Resources{}}
	s.publish(scaleState{services: benchServices})
	return s
}

func (s *scale) Mesh() *config.Mesh {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mesh
}

func (s *scale) Changed() <-chan struct{} { return s.changed }

// publish puts a state into effect.
func (s *scale) publish(st scaleState) {
	b := config.NewBuilder(s.mesh)
	vs := &config.VirtualService{Meta: config.Meta{Key: config.Key{Kind: "VirtualService", Namespace: "ns-0", Name: "edit"}}}
	config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, vs)
	for i := range st.services {
		if s.mesh == nil || i >= s.states[s.mesh].services {
			config.Put(b, endpointsOf, endpointsOfService(i, "10.0.0.1"))
		}
	}
	s.set(b.Mesh(), st)
}

// endpoint changes the endpoints of one service.
func (s *scale) endpoint(address string) {
	b := config.NewBuilder(s.mesh)
	config.Put(b, endpointsOf, endpointsOfService(0, address))
	s.set(b.Mesh(), s.states[s.mesh])
}

func (s *scale) set(m *config.Mesh, st scaleState) {
	s.mu.Lock()
	s.states = map[*config.Mesh]scaleState{m: st, s.mesh: s.states[s.mesh]}
	maps.DeleteFunc(s.sets, func(k scaleState, _ *translate.Resources) bool { return k != st && k != s.states[s.mesh] })
	s.mesh = m
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func hostOf(i int) string { return fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i, i%10) }

func endpointsOfService(i int, address string) *config.Endpoints {
	e := &config.Endpoints{
		ID:     config.ServiceID{Hostname: hostOf(i), Namespace: fmt.Sprintf("ns-%d", i%10)},
		ByPort: map[string][]config.Endpoint{"http": {{Address: address, Port: 80}, {Address: "10.0.0.2", Port: 80}}},
	}
	e.Hash = config.NewHasher().Str(e.ID.Hostname, address).Sum()
	return e
}

func (s *scale) Arrange(m *config.Mesh) snapshot.Arrangement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &scaled{s, s.states[m]}
}

func (s *scale) Secret(*config.Mesh, translate.Reader, string) (*translate.Resource, []config.Problem) {
	return nil, nil
}

func (s *scale) Endpoints(spec *translate.EndpointSpec, eps *config.Endpoints, _ translate.Viewer) *translate.Resource {
	return padded(spec.Cluster, 350, eps.Hash)
}

// padded is a resource whose first field is its name.
func padded(name string, size int, v config.Hash) *translate.Resource {
	b := append([]byte{10, byte(len(name))}, name...)
	pad := max(size-len(b)-3-16, 0)
	b = append(b, 18, byte(pad+16&127|128), byte((pad+16)>>7))
	b = append(b, v.String()...)
	b = append(b, bytes.Repeat([]byte{'x'}, pad)...)
	return &translate.Resource{Name: name, Version: config.NewHasher().Bytes(b).Sum(), Body: [][]byte{b}}
}

type scaled struct {
	s  *scale
	st scaleState
}

func (a *scaled) Classes(p *config.Proxy) []translate.Class {
	return []translate.Class{
		{Side: translate.Outbound, Namespace: p.Namespace},
		{Side: translate.Inbound, Namespace: p.Namespace, Labels: p.Labels["app"]},
	}
}

func (a *scaled) Gather(c translate.Class) (config.Hash, func() *translate.Resources) {
	if c.Side == translate.Inbound {
		key := config.NewHasher().Str(c.Namespace, c.Labels).Sum()
		return key, func() *translate.Resources {
			return &translate.Resources{
				Key: key, Clusters: translate.NewSet([]*translate.Resource{padded("inbound|80||", 1000, key)}),
				Listeners: translate.NewSet([]*translate.Resource{padded("virtualInbound", 15000, key)}),
			}
		}
	}
	key := config.NewHasher().Str(c.Namespace).Uint(uint64(a.st.services)).Uint(uint64(a.st.route)).Sum()
	return key, func() *translate.Resources { return a.outbound(key) }
}

// outbound is made once for all namespaces, as a Translator remembers.
func (a *scaled) outbound(key config.Hash) *translate.Resources {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	r := a.s.sets[a.st]
	if r == nil {
		r = &translate.Resources{}
		var cs, ls []*translate.Resource
		for i := range a.st.services {
			for _, port := range []string{"80", "8080"} {
				name := "outbound|" + port + "||" + hostOf(i)
				cs = append(cs, padded(name, 1100, 0))
				spec := translate.EndpointSpec{Cluster: name, Service: endpointsOfService(i, "").ID}
				spec.Hash = config.NewHasher().Str(name).Sum()
				r.Endpoints = append(r.Endpoints, spec)
			}
			ls = append(ls, padded(fmt.Sprintf("10.96.%d.%d_80", i/250, i%250), 1500, 0))
		}
		r.Clusters, r.Listeners = translate.NewSet(cs), translate.NewSet(ls)
		r.Routes = translate.NewSet([]*translate.Resource{{
			Name: "80", Version: config.NewHasher().Uint(uint64(a.st.route)).Uint(uint64(a.st.services)).Sum(),
			Body: [][]byte{{10, 2, '8', '0'}, bytes.Repeat([]byte{18, 2, 'x', 'x'}, 60_000)},
		}})
		sortSpecs(r.Endpoints)
		a.s.sets[a.st] = r
	}
	out := *r
	out.Key = key
	return &out
}

func sortSpecs(s []translate.EndpointSpec) {
	for i := range s {
		for j := i; j > 0 && s[j].Cluster < s[j-1].Cluster; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

// generator is the load in a process of its own.
type generator struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Reader
}

func (g *generator) tell(format string, args ...any) string {
	g.b.Helper()
	if _, err := fmt.Fprintf(g.in, format+"\n", args...); err != nil {
		g.b.Fatal(err)
	}
	return g.line()
}

func (g *generator) line() string {
	line, err := g.out.ReadString('\n')
	if err != nil {
		g.b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// figures are what one change came to.
type figures struct{ p50, p99, bytes, responses float64 }

// measure makes a change and waits until n responses have arrived.
func (g *generator) measure(n int, change func()) figures {
	g.b.Helper()
	g.tell("expect %d %d", n, time.Now().UnixNano())
	change()
	var f figures
	if _, err := fmt.Sscan(g.line(), &f.p50, &f.p99, &f.bytes, &f.responses); err != nil {
		g.b.Fatal(err)
	}
	return f
}

// BenchmarkEndpoint is one endpoint's way to 500 proxies.
func BenchmarkEndpoint(b *testing.B) {
	s, _, g := startBench(b)
	g.tell("connect %d", benchProxies)
	calm()
	b.ResetTimer()
	b.ReportAllocs()
	cpu := cpuTime()
	var p50 float64
	for i := range b.N {
		p50 += g.measure(benchProxies, func() { s.endpoint(fmt.Sprintf("172.%d.%d.%d", i>>16, i>>8&255, i&255)) }).p50
	}
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N)/1e6, "cpu-ms/op")
	b.ReportMetric(p50/float64(b.N)/1e6, "p50-ms")
}

func startBench(b *testing.B) (*scale, *served, *generator) {
	s := newScale()
	srv := serveFrom(b, s, s, snapshot.Options{})
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), loadAddr+"="+srv.addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return s, srv, &generator{b, in, bufio.NewReader(out)}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// resident is the process's resident set in bytes.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize())
}

// BenchmarkProxies brings up 500 proxies of 1,000 clusters and measures, each
// round, one change of each kind until every proxy has it.
func BenchmarkProxies(b *testing.B) {
	for _, p := range []string{"delta", "sotw"} {
		b.Run(p, func(b *testing.B) { benchProtocol(b, p == "sotw") })
	}
}

func benchProtocol(b *testing.B, sotw bool) {
	s, _, g := startBench(b)
	command := "connect"
	if sotw {
		command = "sotw"
	}
	runtime.GC()
	idle := resident()
	cpu := cpuTime()
	start := time.Now()
	g.tell(command+" %d", benchProxies)
	calm()
	b.Logf("connect: %v, %v CPU, %.0f MB resident", time.Since(start).Round(time.Millisecond), (cpuTime() - cpu).Round(time.Millisecond), resident()/1e6)

	report := func(name string, per int, change func(i int)) {
		var f figures
		cpu := cpuTime()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rounds := max(b.N, 5)
		for i := range rounds {
			x := g.measure(benchProxies*per, func() { change(i) })
			f.p50, f.p99, f.bytes = f.p50+x.p50, f.p99+x.p99, f.bytes+x.bytes
		}
		n := float64(rounds)
		runtime.ReadMemStats(&after)
		b.Logf("%s: p50 %.1f ms, p99 %.1f ms, CPU %.1f ms, %.2f MB, %.0f allocs a proxy", name,
			f.p50/n/1e6, f.p99/n/1e6, float64(cpuTime()-cpu)/n/1e6, f.bytes/n/1e6,
			float64(after.Mallocs-before.Mallocs)/n/benchProxies)
	}
	report("endpoint", 1, func(i int) { s.endpoint(fmt.Sprintf("172.16.0.%d", i)) })
	report("route", 1, func(i int) { s.publish(scaleState{services: benchServices, route: i + 1}) })
	report("service", 4, func(i int) { s.publish(scaleState{services: benchServices + i + 1, route: 1}) })
	memory(b, idle)
	if !sotw {
		cpu = cpuTime()
		g.tell("reconnect")
		calm()
		b.Logf("reconnect: %v CPU", (cpuTime() - cpu).Round(time.Millisecond))
	}
}

// calm waits until the process has been idle for a second.
func calm() {
	last := cpuTime()
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for quiet := 0; quiet < 4; {
		<-look.C
		now := cpuTime()
		if now-last < 5*time.Millisecond {
			quiet++
		} else {
			quiet = 0
		}
		last = now
	}
}

func memory(b *testing.B, idle float64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.Logf("memory a proxy: %.0f KB resident, %.0f KB heap, %.0f KB stacks; %d goroutines",
		(resident()-idle)/benchProxies/1e3, float64(m.HeapAlloc)/benchProxies/1e3, float64(m.StackInuse)/benchProxies/1e3, runtime.NumGoroutine())
}
