package snapshot_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/agent/wire"
)

// loadAddr, in the environment, makes the test binary a load generator
// against that server: the benchmarks measure a process of their own.
const loadAddr = "SNAPSHOT_LOAD_ADDR"

// load is many proxies in one process. Commands come in on stdin, one line
// each, and are answered with one line.
type load struct {
	addr    string
	sotw    bool
	proxies []*loadProxy

	bytes, responses atomic.Int64
	mu               sync.Mutex
	wanted           int
	since            time.Time
	arrivals         []time.Duration
	done             chan struct{}
}

// loadProxy is one proxy that subscribes as Envoy does.
type loadProxy struct {
	load   *load
	node   *core.Node
	send   func(url string, names []string, nonce, version string, initial map[string]string)
	have   map[string]map[string]string // delta: versions by type
	names  map[string][]string          // eds and rds
	last   map[string][2]string         // sotw: version and nonce
	lds    bool
	cancel context.CancelFunc
}

func runLoad(addr string) {
	l := &load{addr: addr}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var n int
		var at int64
		switch line := in.Text(); {
		case scan(line, "connect %d", &n), scan(line, "sotw %d", &n):
			l.sotw = strings.HasPrefix(line, "sotw")
			l.connect(n)
		case line == "reconnect":
			for _, p := range l.proxies {
				p.cancel()
				p.start(true)
			}
		case scan(line, "expect %d %d", &n, &at):
			l.expect(n, time.Unix(0, at))
			go l.tell()
		}
		_, _ = fmt.Fprintln(os.Stdout, "ok")
	}
}

// tell prints the figures of what was expected, when it has come.
func (l *load) tell() {
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.arrivals)
	_, _ = fmt.Fprintln(os.Stdout, l.arrivals[len(l.arrivals)/2].Nanoseconds(), l.arrivals[len(l.arrivals)*99/100].Nanoseconds(),
		l.bytes.Load(), l.responses.Load())
}

func scan(line, format string, to ...any) bool {
	n, err := fmt.Sscanf(line, format, to...)
	return err == nil && n == len(to)
}

// expect begins to wait for n responses, timed from a moment.
func (l *load) expect(n int, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes.Store(0)
	l.responses.Store(0)
	l.wanted, l.since, l.arrivals, l.done = n, since, nil, make(chan struct{})
}

func (l *load) arrived(size int) {
	l.bytes.Add(int64(size))
	l.responses.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wanted == 0 {
		return
	}
	l.arrivals = append(l.arrivals, time.Since(l.since))
	if l.wanted--; l.wanted == 0 {
		close(l.done)
	}
}

func (l *load) connect(n int) {
	for i := range n {
		s, ns := i/2, fmt.Sprintf("ns-%d", i/2%10)
		md, err := structpb.NewStruct(map[string]any{
			"NAMESPACE": ns, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "SERVICE_ACCOUNT": "default",
			"LABELS": map[string]any{"app": fmt.Sprintf("svc-%d", s), "version": "v1"},
		})
		if err != nil {
			panic(err)
		}
		p := &loadProxy{load: l, node: &core.Node{
			Id: fmt.Sprintf("sidecar~10.0.%d.%d~svc-%d-%d.%s~%s.svc.cluster.local", i/250, i%250, s, i%2, ns, ns), Metadata: md}}
		l.proxies = append(l.proxies, p)
		p.start(false)
	}
}

func (p *loadProxy) start(again bool) {
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	cc, err := grpc.NewClient(p.load.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.ForceCodecV2(rawCodec{})),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20))
	if err != nil {
		panic(err)
	}
	context.AfterFunc(ctx, func() { _ = cc.Close() })
	ads := discovery.NewAggregatedDiscoveryServiceClient(cc)
	var st grpc.ClientStream
	if p.load.sotw {
		st, err = ads.StreamAggregatedResources(ctx)
	} else {
		st, err = ads.DeltaAggregatedResources(ctx)
	}
	if err != nil {
		panic(err)
	}
	n := p.node
	p.send = func(url string, names []string, nonce, version string, initial map[string]string) {
		var m any
		if p.load.sotw {
			m = &discovery.DiscoveryRequest{Node: n, TypeUrl: url, ResourceNames: names, ResponseNonce: nonce, VersionInfo: version}
		} else {
			m = &discovery.DeltaDiscoveryRequest{Node: n, TypeUrl: url, ResourceNamesSubscribe: names, ResponseNonce: nonce, InitialResourceVersions: initial}
		}
		n = nil
		_ = st.SendMsg(m)
	}
	if again {
		p.send(cds, nil, "", "", p.have[cds])
		p.send(eds, p.names[eds], "", "", p.have[eds])
		p.send(lds, nil, "", "", p.have[lds])
		p.send(rds, p.names[rds], "", "", p.have[rds])
	} else {
		p.have = map[string]map[string]string{cds: {}, eds: {}, lds: {}, rds: {}}
		p.names, p.last = map[string][]string{}, map[string][2]string{}
		p.send(cds, nil, "", "", nil)
	}
	go func() {
		for {
			var r rawResponse
			if st.RecvMsg(&r) != nil {
				return
			}
			p.receive(&r)
			p.load.arrived(r.size)
		}
	}()
}

// receive does what Envoy does with a response.
func (p *loadProxy) receive(r *rawResponse) {
	if p.load.sotw {
		p.receiveSotW(r)
		return
	}
	p.send(r.url, nil, r.nonce, "", nil)
	var fresh []string
	for i, n := range r.names {
		if _, ok := p.have[r.url][n]; !ok {
			fresh = append(fresh, n)
		}
		p.have[r.url][n] = r.versions[i]
	}
	switch {
	case r.url == cds:
		if fresh = outbound(fresh); len(fresh) > 0 {
			p.names[eds] = append(p.names[eds], fresh...)
			p.send(eds, fresh, "", "", nil)
		}
		if !p.lds {
			p.lds = true
			p.send(lds, nil, "", "", nil)
		}
	case r.url == lds && p.names[rds] == nil:
		p.names[rds] = []string{"80"}
		p.send(rds, p.names[rds], "", "", nil)
	}
}

func (p *loadProxy) receiveSotW(r *rawResponse) {
	p.last[r.url] = [2]string{r.version, r.nonce}
	ask := func(url string) {
		l := p.last[url]
		p.send(url, p.names[url], l[1], l[0], nil)
	}
	ask(r.url)
	switch {
	case r.url == cds:
		p.names[eds] = outbound(r.names)
		ask(eds)
		if !p.lds {
			p.lds = true
			ask(lds)
		}
	case r.url == lds && p.names[rds] == nil:
		p.names[rds] = []string{"80"}
		ask(rds)
	}
}

func outbound(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, "inbound|") })
}

// rawResponse is what of a response a proxy must know.
type rawResponse struct {
	url, nonce, version string
	names, versions     []string
	size                int
}

// rawCodec reads responses without making messages of their resources.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return encoding.GetCodecV2("proto").Marshal(v)
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r := v.(*rawResponse)
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	r.size = b.Len()
	return wire.Fields(b.ReadOnlyData(), func(n protowire.Number, v []byte) error {
		switch n {
		case 1:
			r.version = string(v)
		case 2:
			return r.resource(v)
		case 4:
			r.url = string(v)
		case 5:
			r.nonce = string(v)
		}
		return nil
	})
}

// resource reads a delta resource's name and version; of a SotW one, whose
// two fields are a type URL and a body, the name, which is the body's first
// field in the messages of the benchmark.
func (r *rawResponse) resource(b []byte) error {
	var name, version string
	err := wire.Fields(b, func(n protowire.Number, v []byte) error {
		switch n {
		case 1:
			version = string(v)
		case 2:
			if name == "" && !strings.HasPrefix(version, "type.") {
				return nil
			}
			if strings.HasPrefix(version, "type.") {
				_, _, k := protowire.ConsumeTag(v)
				s, _ := protowire.ConsumeString(v[k:])
				name = strings.Clone(s)
			}
		case 3:
			name = string(v)
		}
		return nil
	})
	r.names, r.versions = append(r.names, name), append(r.versions, version)
	return err
}
