package inject

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/pilotfish-mesh/pilotfish/webhook"
)

// metrics have the names that they have at istiod. A request counts once among
// success, failure and skip.
type metrics struct {
	requests, success, failure, skip prometheus.Counter
	seconds                          prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sidecar_injection_" + name, Help: help})
	}
	m := &metrics{
		requests: counter("requests_total", "Requests of the injection webhook."),
		success:  counter("success_total", "Pods that were given a proxy."),
		failure:  counter("failure_total", "Requests that failed."),
		skip:     counter("skip_total", "Pods that were left as they are."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sidecar_injection_time_seconds", Help: "Time that a request of the injection webhook took.",
			Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .5, 1, 3, 10, 30},
		}),
	}
	r.MustRegister(m.requests, m.success, m.failure, m.skip, m.seconds)
	return m
}

// Handler serves /inject, and below it the paths that set variables of the
// proxy: /inject/cluster/east/net/n1.
func Handler(f *Follower, r prometheus.Registerer, log *zap.Logger) http.Handler {
	h := &handler{f, newMetrics(r), log}
	reviews := webhook.Handler(h.decide, h.failed)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		h.metrics.requests.Inc()
		if _, err := f.Injector(); errors.Is(err, errNotReady) {
			h.failed(err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		reviews.ServeHTTP(w, r)
		h.metrics.seconds.Observe(time.Since(begin).Seconds())
	})
}

type handler struct {
	follower *Follower
	metrics  *metrics
	log      *zap.Logger
}

func (h *handler) failed(err error) {
	h.metrics.failure.Inc()
	h.log.Warn("injection failed", zap.Error(err))
}

func (h *handler) skipped(why string, more ...zap.Field) *admissionv1.AdmissionResponse {
	h.metrics.skip.Inc()
	h.log.Debug("not injected: "+why, more...)
	return webhook.Allowed()
}

func (h *handler) decide(_ context.Context, r *webhook.Request) *admissionv1.AdmissionResponse {
	if r.Resource.Resource != "pods" || r.SubResource != "" || r.Operation != admissionv1.Create {
		return h.skipped("no pod is created", zap.String("resource", r.Resource.Resource), zap.String("operation", string(r.Operation)))
	}
	response, result, err := h.inject(r)
	if err != nil {
		h.failed(err)
		return webhook.Refused("injection of the sidecar failed: " + err.Error())
	}
	if result.Skipped != "" {
		return h.skipped(result.Skipped, zap.String("namespace", r.Namespace))
	}
	h.metrics.success.Inc()
	return response
}

func (h *handler) inject(r *webhook.Request) (*admissionv1.AdmissionResponse, *Result, error) {
	in, err := h.follower.Injector()
	if err != nil {
		return nil, nil, err
	}
	pod, err := readObject(r.Object.Raw)
	if err != nil || pod == nil {
		return nil, nil, errors.New("the request's object is no pod")
	}
	result, err := in.Inject(&Request{Pod: pod, Namespace: r.Namespace, Env: pathEnv(r.Path)})
	if err != nil || result.Skipped != "" {
		return nil, result, err
	}
	b, err := patch(pod, result.Pod)
	if err != nil {
		return nil, nil, err
	}
	response := webhook.Allowed(result.Warnings...)
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = b, &kind
	return response, result, nil
}

// pathEnv reads pairs of names and values below /inject. A slash in a value is
// written --slash--.
func pathEnv(path string) map[string]string {
	_, rest, _ := strings.Cut(strings.Trim(path, "/"), "/")
	parts := strings.Split(rest, "/")
	out := map[string]string{}
	for i := 0; i+1 < len(parts); i += 2 {
		name := strings.ToUpper(parts[i])
		switch parts[i] {
		case "":
			continue
		case "cluster":
			name = clusterEnv
		case "net":
			name = networkEnv
		}
		out[name] = strings.ReplaceAll(parts[i+1], "--slash--", "/")
	}
	return out
}
