package pod_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

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
