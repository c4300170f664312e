package pod_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The agent tells the control plane how the workload is by the probe of its
// WorkloadGroup, when that changes.
func TestHealthIsReported(t *testing.T) {
	var mu sync.Mutex
	sick := false
	port := application(t, false, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if sick || r.URL.Path != "/ready" || r.Header.Get("X-Probe") != "p" {
			http.Error(w, "sick", http.StatusServiceUnavailable)
		}
	})
	w := newWorld(t, ca.Options{})
	r := w.start(w.options(map[string]any{"readinessProbe": map[string]any{
		"periodSeconds": 1, "failureThreshold": 2,
		"httpGet": map[string]any{"path": "/ready", "port": atoi(t, port), "httpHeaders": []any{map[string]any{"name": "X-Probe", "value": "p"}}},
	}}))
	w.awaitReady(r)
	said := func(want ...string) {
		t.Helper()
		envoytest.Eventually(t, 20*time.Second, func() string {
			if got := w.reports(); fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Sprintf("the control plane was told %q, want %q", got, want)
			}
			return ""
		})
	}
	set := func(to bool) {
		mu.Lock()
		defer mu.Unlock()
		sick = to
	}
	// Before Envoy had its configuration the workload was not healthy, which may
	// have been told.
	envoytest.Eventually(t, 20*time.Second, func() string {
		if got := w.reports(); len(got) == 0 || got[len(got)-1] != "healthy" {
			return fmt.Sprint(got)
		}
		return ""
	})
	w.forgetReports()
	set(true)
	said("/ready is answered with status 503")
	set(false)
	said("/ready is answered with status 503", "healthy")
}

// patient is a workload whose health the test decides about.
type patient struct {
	probe map[string]any
	set   func(sick bool)
	says  string // of the sick one
}

// patients are one of each kind that TestHealthIsReported has not.
func patients(t *testing.T, w *world) map[string]patient {
	t.Helper()
	g, hs := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(g, hs)
	gl, grpcPort := listen(t)
	go func() { _ = g.Serve(gl) }()
	t.Cleanup(g.Stop)
	serving := func(sick bool) {
		s := grpc_health_v1.HealthCheckResponse_SERVING
		if sick {
			s = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		hs.SetServingStatus("shop", s)
	}
	tl, tcpPort := listen(t)
	var mu sync.Mutex
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		_ = tl.Close()
	})
	file := filepath.Join(w.root, "healthy")
	exists := func(sick bool) {
		var err error
		if sick {
			err = os.Remove(file)
		} else {
			err = os.WriteFile(file, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]patient{
		"exec": {map[string]any{"exec": map[string]any{"command": []any{"sh", "-c", "test -e " + file}}}, exists, "sh: exit status 1"},
		// The shell's child outlives the shell's end, were that all that is ended.
		"exec without an end": {
			map[string]any{"exec": map[string]any{"command": []any{"sh", "-c", "test -e " + file + " || { sleep 987 & echo $! >>" + file + ".child; wait; }"}}},
			exists, "sh did not end within 1s",
		},
		"gRPC": {map[string]any{"grpc": map[string]any{"port": atoi(t, grpcPort), "service": "shop"}}, serving, "NOT_SERVING"},
		"TCP": {map[string]any{"tcpSocket": map[string]any{"port": atoi(t, tcpPort)}}, func(sick bool) {
			mu.Lock()
			defer mu.Unlock()
			if sick {
				_ = tl.Close()
				return
			}
			_ = tl.Close()
			var err error
			if tl, err = net.Listen("tcp", ":"+tcpPort); err != nil {
				t.Error(err)
			}
		}, "connection refused"},
	}
}

// A workload's health is found out by a command, by gRPC's health service and by
// a connection, each real; no process of a command stays.
func TestHealthByEachKind(t *testing.T) {
	for _, name := range []string{"exec", "exec without an end", "gRPC", "TCP"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, ca.Options{})
			p := patients(t, w)[name]
			p.set(false)
			p.probe["periodSeconds"] = 1
			w.awaitReady(w.start(w.options(map[string]any{"readinessProbe": p.probe})))
			last := func(want string) {
				t.Helper()
				envoytest.Eventually(t, 20*time.Second, func() string {
					if got := w.reports(); len(got) == 0 || !strings.Contains(got[len(got)-1], want) {
						return fmt.Sprintf("the control plane was told %q, want at last %q", got, want)
					}
					return ""
				})
			}
			last("healthy")
			for range 2 {
				p.set(true)
				last(p.says)
				p.set(false)
				last("healthy")
			}
			children, _ := os.ReadFile(filepath.Join(w.root, "healthy.child"))
			if name == "exec without an end" && len(children) == 0 {
				t.Error("the command has had no child")
			}
			for _, pid := range strings.Fields(string(children)) {
				envoytest.Eventually(t, 20*time.Second, func() string {
					if cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.Contains(string(cmdline), "987") {
						return fmt.Sprintf("process %s of a command is left: %q", pid, cmdline)
					}
					return ""
				})
			}
		})
	}
}

// Probes that cannot be are refused at the start, with what is wrong.
func TestReadinessProbesThatAreRefused(t *testing.T) {
	w := newWorld(t, ca.Options{})
	for want, probe := range map[string]map[string]any{
		"has 0 of httpGet, tcpSocket, grpc and exec": {"periodSeconds": 1},
		"has 2 of httpGet, tcpSocket, grpc and exec": {"tcpSocket": map[string]any{"port": 1}, "exec": map[string]any{"command": []any{"true"}}},
		"readinessProbe.exec.command is empty":       {"exec": map[string]any{}},
		"readinessProbe.periodSeconds is -1":         {"exec": map[string]any{"command": []any{"true"}}, "periodSeconds": -1},
		"port 0: want a number from 1 to 65535":      {"tcpSocket": map[string]any{"port": 0}},
	} {
		err := pod.Run(context.Background(), w.options(map[string]any{"readinessProbe": probe}), zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
