package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/kubernetes"
)

// balancer spreads TCP connections over servers by turns, as a Kubernetes Service
// does by chance.
type balancer struct {
	listener net.Listener
	to       []string
	count    []atomic.Int64 // of connections that are open
	wg       sync.WaitGroup
}

// balance puts a balancer before the target's processes.
func (t *target) balance(ctx context.Context) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := &balancer{listener: l, count: make([]atomic.Int64, len(t.servers))}
	for _, s := range t.servers {
		b.to = append(b.to, s.address)
	}
	t.balancer, t.address = b, l.Addr().String()
	b.wg.Add(1)
	go b.run()
	return nil
}

func (b *balancer) run() {
	defer b.wg.Done()
	for n := 0; ; n++ {
		c, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		go b.forward(c, n%len(b.to))
	}
}

func (b *balancer) forward(c net.Conn, i int) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", b.to[i])
	if err != nil {
		return // the client sees its connection end, and tries again
	}
	defer func() { _ = up.Close() }()
	b.count[i].Add(1)
	defer b.count[i].Add(-1)
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // until either side ends
			ended <- struct{}{}
		}()
	}
	<-ended
}

func (b *balancer) close() {
	_ = b.listener.Close()
	b.wg.Wait()
}

// shares says what each of several processes holds.
func (t *target) shares(to io.Writer) error {
	if t.balancer == nil {
		return nil
	}
	for i, s := range t.servers {
		u, err := s.usage()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(to, "replica %d: %d proxies, %.0f MB resident, %.2f s of CPU since its start\n",
			i, t.balancer.count[i].Load(), u.rss, u.cpu.Seconds()); err != nil {
			return err
		}
	}
	return nil
}

// apiServer is what the API server says of its work so far.
type apiServer map[string]float64

// apiServerMetrics are those that adsbench adds up over their labels.
var apiServerMetrics = []string{
	"apiserver_longrunning_requests", "apiserver_request_total", "apiserver_watch_events_total", "apiserver_watch_events_sizes_sum",
	"apiserver_response_sizes_sum", "process_cpu_seconds_total",
}

func readAPIServer(ctx context.Context, client kubernetes.Interface) (apiServer, error) {
	text, err := client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	out := apiServer{}
	for line := range strings.Lines(string(text)) {
		at := strings.IndexAny(line, "{ ")
		if strings.HasPrefix(line, "#") || at < 0 || !slices.Contains(apiServerMetrics, line[:at]) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			return nil, fmt.Errorf("metrics of the API server: %q: %w", strings.TrimSpace(line), err)
		}
		name := line[:at]
		if name == "apiserver_request_total" {
			for _, verb := range []string{"LIST", "WATCH", "GET"} {
				if strings.Contains(line, `verb="`+verb+`"`) {
					out["requests "+verb] += value
				}
			}
		}
		out[name] += value
	}
	return out, nil
}

// since tells the difference; what is open is told as it is.
func (a apiServer) since(before apiServer) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		v := a[name]
		if name != "apiserver_longrunning_requests" {
			v -= before[name]
		} else {
			parts = append(parts, fmt.Sprintf("%s %.0f (before: %.0f)", name, v, before[name]))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %.6g", name, v))
	}
	return strings.Join(parts, ", ")
}
