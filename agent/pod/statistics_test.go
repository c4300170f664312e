package pod

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// What the annotations of a pod, as the downward API writes them, do to its
// Envoy's bootstrap and to the agent.
func TestStatisticsByAnnotations(t *testing.T) {
	s := annotated(t, map[string]string{
		annotatedPrefixes: "http.{pod_ip}_, cluster.outbound",
		annotatedSuffixes: "upstream_rq_total",
		annotatedFlush:    "2s", annotatedEviction: "10s",
		annotatedBuckets:                    `{"istiocustom": [1, 5], "cluster.xds-grpc": [2.5], "istiocustom.istio_request_bytes": [9]}`,
		"sidecar.istio.io/discoveryAddress": "istiod.elsewhere.svc:15012",
	}, `{"proxyStatsMatcher": {"inclusionPrefixes": ["gone"], "inclusionRegexps": ["kept"]}}`)
	b, err := s.bootstrap(&sockets{})
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Stats            *agent.StatsMatcher
		Flush, Eviction  time.Duration
		Buckets          []agent.HistogramBuckets
		Durations, Bytes []float64
		Discovery        agent.Address
	}
	want := seen{
		Stats: &agent.StatsMatcher{
			Prefixes: append(append([]string{}, statPrefixes...), "http.10.0.0.9_", "http.fd00::9_", "cluster.outbound"),
			Suffixes: append(append([]string{}, statSuffixes...), "upstream_rq_total"),
			Regexes:  append(append([]string{}, statRegexes...), "kept"),
		},
		Flush: 2 * time.Second, Eviction: 10 * time.Second,
		Buckets: []agent.HistogramBuckets{
			{Prefix: "cluster.xds-grpc", Bounds: []float64{2.5}}, {Prefix: "istiocustom", Bounds: []float64{1, 5}},
			{Prefix: "istiocustom.istio_request_bytes", Bounds: []float64{9}},
		},
		// The first prefix counts, in the order of the alphabet.
		Durations: []float64{1, 5}, Bytes: []float64{1, 5},
		Discovery: agent.Address{Host: "istiod.elsewhere.svc", Port: 15012},
	}
	got := seen{
		Stats: b.Stats, Flush: b.FlushStats, Eviction: s.statistics.eviction, Buckets: b.Buckets,
		Durations: s.statistics.bounds("istio_request_duration_milliseconds"), Bytes: s.statistics.bounds("istio_request_bytes"), Discovery: b.Discovery,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatisticsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{annotatedFlush, "often", `annotation sidecar.istio.io/statsFlushInterval is "often"; want a duration of 1ms or more, such as 5s`},
		{annotatedFlush, "0s", `annotation sidecar.istio.io/statsFlushInterval is "0s"; want a duration of 1ms or more, such as 5s`},
		{annotatedEviction, "7s", `annotation sidecar.istio.io/statsEvictionInterval is "7s"; want a multiple of the flush interval, 5s`},
		{annotatedBuckets, `[1]`, `annotation sidecar.istio.io/statsHistogramBuckets: want a JSON object of lists of numbers: json: cannot unmarshal array`},
		{annotatedBuckets, `{"x": [2, 1]}`, `annotation sidecar.istio.io/statsHistogramBuckets: "x": want numbers over 0, each larger than the one before`},
		{annotatedBuckets, `{"x": [1, 1]}`, `annotation sidecar.istio.io/statsHistogramBuckets: "x": want numbers over 0, each larger than the one before`},
		{annotatedBuckets, `{"x": []}`, `annotation sidecar.istio.io/statsHistogramBuckets: "x": want numbers over 0, each larger than the one before`},
	} {
		_, err := readSettings(annotatedOptions(t, map[string]string{c.name: c.value}, "{}"))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, want %s", c.name, c.value, err, c.want)
		}
	}
}

// annotated are the settings of a pod with annotations and PROXY_CONFIG.
func annotated(t *testing.T, annotations map[string]string, proxyConfig string) *settings {
	t.Helper()
	s, err := readSettings(annotatedOptions(t, annotations, proxyConfig))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func annotatedOptions(t *testing.T, annotations map[string]string, proxyConfig string) Options {
	t.Helper()
	o := Options{
		Type: Sidecar, Root: t.TempDir(), Addresses: []string{"fd00::9"},
		Environ: []string{"POD_NAME=a", "POD_NAMESPACE=shop", "INSTANCE_IP=10.0.0.9", "PROXY_CONFIG=" + proxyConfig},
	}
	var text strings.Builder
	for k, v := range annotations {
		fmt.Fprintf(&text, "%s=%q\n", k, v)
	}
	if err := os.MkdirAll(o.Root+podDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Root+podDir+"/annotations", []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}
