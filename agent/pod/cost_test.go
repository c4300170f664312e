package pod_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
)

// TestCostOfMetrics measures what the standard metrics cost at 1,000 requests
// a second, inbound: plain ones, and calls of gRPC with ten messages each way,
// which are counted. It asserts nothing about time and runs when asked for:
// PILOTFISH_COST=10s says for how long.
func TestCostOfMetrics(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("PILOTFISH_COST"))
	if err != nil {
		t.Skip("a measurement: set PILOTFISH_COST=10s")
	}
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Grpc-Status", "0")
		_, _ = io.Copy(w, r.Body)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	for i, on := range []string{"false", "true", "false", "true", "false", "true", "false", "true"} {
		kind, body := "text/plain", "ok"
		if i >= 4 {
			kind, body = "application/grpc", strings.Repeat("\x00\x00\x00\x00\x02hi", 10)
		}
		t.Run(kind+" metrics="+on, func(t *testing.T) {
			w := newWorld(t, ca.Options{})
			interceptOwn(t)
			pid, _ := w.startCommand(w.options(nil, "PILOTFISH_TELEMETRY="+on))
			w.awaitReady(nil)
			envoy := childOf(t, pid)
			a, e := cpu(t, pid), cpu(t, envoy)
			took := load(t, d, kind, body)
			t.Logf("%d requests: p50 %v, p99 %v; CPU of Envoy %.1f%%, of the agent %.1f%%; agent %.1f MB", len(took),
				took[len(took)/2], took[len(took)*99/100],
				100*(cpu(t, envoy)-e).Seconds()/d.Seconds(), 100*(cpu(t, pid)-a).Seconds()/d.Seconds(), float64(resident(t, pid))/(1<<20))
		})
	}
}

// load sends 1,000 requests a second, evenly, and returns their sorted times.
func load(t *testing.T, d time.Duration, kind, body string) []time.Duration {
	const workers, every = 20, 20 * time.Millisecond
	var mu sync.Mutex
	var out []time.Duration
	var wait sync.WaitGroup
	end := time.After(d)
	stop := make(chan struct{})
	go func() { <-end; close(stop) }()
	for range workers {
		wait.Go(func() {
			c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				began := time.Now()
				resp, err := c.Post("http://"+podIP+":8080/", kind, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				mu.Lock()
				out = append(out, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	slices.Sort(out)
	return out
}

// cpu is the time that a process has had, at the kernel's 100 ticks a second.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func childOf(t *testing.T, parent int) int {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	t.Fatal("the agent has no child")
	return 0
}
