package up

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/agent/telemetry"
	"github.com/pilotfish-mesh/pilotfish/ca"
)

// metered takes the access log of a pod's proxy, as the agent in a pod of a
// cluster does, and makes Istio's standard metrics of it.
type metered struct {
	receiver *telemetry.Receiver
	stop     func()
}

// directory says who has an address: *telemetry.Workload by its text.
type directory struct{ known sync.Map }

// add puts a workload in until it is forgotten, which takes out nobody who got
// the address since.
func (d *directory) add(address string, w telemetry.Workload) (forget func()) {
	d.known.Store(address, &w)
	return func() { d.known.CompareAndDelete(address, &w) }
}

func (d *directory) find(address string) (telemetry.Workload, bool) {
	v, ok := d.known.Load(address)
	if !ok {
		return telemetry.Workload{}, false
	}
	return *v.(*telemetry.Workload), true
}

// workloadOf is a pod as metrics name it.
func workloadOf(p *podPlan) telemetry.Workload {
	id := ca.Identity{TrustDomain: p.trustDomain, Namespace: p.workload.Namespace, ServiceAccount: p.account()}
	return telemetry.FromLabels(workloadName(p.workload), p.workload.Namespace, clusterID, id.String(), p.workload.Labels)
}

// meter serves a proxy's log on a socket in dir that only the proxy can open.
func (s *surroundings) meter(p *podPlan, dir string, proxy user) (*metered, agent.Address, error) {
	path := filepath.Join(dir, "log.sock")
	l, err := identity.Listen(path, int(proxy.id))
	if err != nil {
		return nil, agent.Address{}, fmt.Errorf("access log of %s: %w", p.key(), err)
	}
	out := &metered{receiver: telemetry.NewReceiver(workloadOf(p), s.directory.find, nil)}
	g := grpc.NewServer()
	out.receiver.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	out.stop = func() { g.Stop(); <-done }
	return out, agent.Address{Path: path}, nil
}

// close may be called on nil, and again.
func (m *metered) close() {
	if m != nil && m.stop != nil {
		m.stop()
		m.stop = nil
	}
}

// scrapePath is where the page's address has the metrics of pods.
const scrapePath = "/prometheus/"

// targetGroup is one entry of Prometheus' HTTP service discovery.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// serveScrapes adds the pages by which a Prometheus on this machine finds and
// scrapes the pods' proxies: their networks cannot be reached from it.
func (m *Mesh) serveScrapes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+scrapePath+"targets", func(w http.ResponseWriter, r *http.Request) {
		// The control plane as a Prometheus in a cluster would know it.
		groups := []targetGroup{{[]string{r.Host}, map[string]string{
			"__metrics_path__": "/metrics", "app": "istiod", "namespace": "istio-system", "pod": "istiod",
		}}}
		for _, p := range m.podList() {
			if p.meter == nil {
				continue
			}
			name, namespace := p.plan.name, p.plan.workload.Namespace
			labels := map[string]string{
				"__metrics_path__": scrapePath + url.PathEscape(namespace) + "/" + url.PathEscape(name),
				"namespace":        namespace, "pod": name, "app": p.plan.workload.Labels["app"],
			}
			groups = append(groups, targetGroup{Targets: []string{r.Host}, Labels: labels})
		}
		slices.SortFunc(groups, func(a, b targetGroup) int {
			return strings.Compare(a.Labels["__metrics_path__"], b.Labels["__metrics_path__"])
		})
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(groups)
	})
	mux.HandleFunc("GET "+scrapePath+"{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if err := m.WriteMetrics(r.Context(), w, r.PathValue("namespace"), r.PathValue("pod")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
}

// WriteMetrics writes what the agent of a pod in a cluster answers on port
// 15020: Istio's standard metrics and Envoy's own, in Prometheus' text format.
// It is an error, before anything is written, if there is no such pod with a
// proxy or its Envoy does not answer.
func (m *Mesh) WriteMetrics(ctx context.Context, w io.Writer, namespace, name string) error {
	for _, p := range m.podList() {
		if p.meter == nil || p.plan.name != name || p.plan.workload.Namespace != namespace {
			continue
		}
		envoy, err := p.adminGet(ctx, "/stats/prometheus")
		if err != nil {
			return err
		}
		agent.WriteBuild(w, "proxy", m.options.Build.Version)
		agent.WriteUsage(w, "pilotfish_proxy", int(p.proxy.pid.Load()))
		if p.certs != nil {
			p.certs.source.WriteMetrics(w)
		}
		if p.wasm != nil {
			p.wasm.server.WriteMetrics(w)
		}
		p.meter.receiver.Metrics().Write(w)
		_, err = w.Write(envoy)
		return err
	}
	return fmt.Errorf("no pod %s/%s with a proxy", namespace, name)
}
