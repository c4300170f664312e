package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// admin asks Envoy's admin interface.
type admin struct {
	// waits: Envoy is not started yet.
	waits  atomic.Bool
	base   string
	client *http.Client
}

func newAdmin(port uint16) *admin {
	return &admin{
		base: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))),
		client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
			DisableCompression: true, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, ReadBufferSize: 4 << 10,
		}},
	}
}

func (a *admin) do(ctx context.Context, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("admin interface %s: %s: %s", path, resp.Status, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

// needed are the statistics that readiness is judged by: each must be above
// zero, but for the state, which is 0 when live.
const (
	serverState   = "server.state"
	workersStat   = "listener_manager.workers_started"
	clustersStat  = "cluster_manager.cds.update_success"
	listenersStat = "listener_manager.lds.update_success"
)

// ready returns nil if Envoy is live with its configuration: not only has the
// first answer come, it was accepted, and everything that it needs has come.
func (a *admin) ready(ctx context.Context) error {
	if a.waits.Load() {
		return errors.New("the control plane, which says what Envoy starts with, was not reached yet")
	}
	text, err := a.do(ctx, http.MethodGet,
		"/stats?usedonly&filter=%5E(server%5C.state%7Clistener_manager%5C.workers_started%7Ccluster_manager%5C.cds%5C.update_success%7Clistener_manager%5C.lds%5C.update_success)%24")
	if err != nil {
		return err
	}
	stats := parseStats(text)
	switch {
	case stats[clustersStat] == 0:
		return errors.New("no clusters from the control plane were accepted yet")
	case stats[listenersStat] == 0:
		return errors.New("no listeners from the control plane were accepted yet")
	case stats[serverState] != 0:
		return fmt.Errorf("the proxy is in state %d, not live", stats[serverState])
	case stats[workersStat] == 0:
		return errors.New("the proxy's workers have not started yet")
	}
	return nil
}

// parseStats reads lines "name: number".
func parseStats(text string) map[string]uint64 {
	out := map[string]uint64{}
	for _, line := range strings.Split(text, "\n") {
		if i := strings.LastIndex(line, ": "); i > 0 {
			if n, err := strconv.ParseUint(strings.TrimSpace(line[i+2:]), 10, 64); err == nil {
				out[line[:i]] = n
			}
		}
	}
	return out
}

// drain makes Envoy ask its clients to go elsewhere. A sidecar keeps its
// application's own connections, which may need them to finish.
func (a *admin) drain(ctx context.Context, inboundOnly bool) error {
	path := "/drain_listeners?graceful&skip_exit"
	if inboundOnly {
		path = "/drain_listeners?inboundonly&graceful&skip_exit"
	}
	_, err := a.do(ctx, http.MethodPost, path)
	return err
}

// connections counts those that clients have open to Envoy's listeners,
// without the admin interface and those of probes and scrapes.
func (a *admin) connections(ctx context.Context) (uint64, error) {
	text, err := a.do(ctx, http.MethodGet, "/stats?usedonly&filter=downstream_cx_active$")
	if err != nil {
		return 0, err
	}
	var n uint64
	for name, v := range parseStats(text) {
		if strings.HasPrefix(name, "listener.") && !ownListener(name) {
			n += v
		}
	}
	return n, nil
}

func ownListener(name string) bool {
	if strings.Contains(name, ".worker_") || strings.HasPrefix(name, "listener.admin.") || strings.HasPrefix(name, "listener.envoy_internal_") {
		return true
	}
	return strings.HasSuffix(name, "_15021.downstream_cx_active") || strings.HasSuffix(name, "_15090.downstream_cx_active")
}
