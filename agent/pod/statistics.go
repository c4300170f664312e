package pod

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// The statistics that Envoy keeps in a pod, besides what the user asks for:
// those that readiness, draining, tools and dashboards read. All of them would
// cost more memory than everything else in a large mesh.
var (
	statPrefixes = []string{"cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "reporter=", "component"}
	statSuffixes = []string{"rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active"}
	statRegexes  = []string{`vhost\..*\.route\..*`}
)

// The annotations about statistics. The first three replace what the
// ProxyConfig has, as in Istio.
const (
	annotatedPrefixes = "sidecar.istio.io/statsInclusionPrefixes"
	annotatedSuffixes = "sidecar.istio.io/statsInclusionSuffixes"
	annotatedRegexes  = "sidecar.istio.io/statsInclusionRegexps"
	annotatedFlush    = "sidecar.istio.io/statsFlushInterval"
	annotatedEviction = "sidecar.istio.io/statsEvictionInterval"
	annotatedBuckets  = "sidecar.istio.io/statsHistogramBuckets"
)

// defaultFlush is Envoy's.
const defaultFlush = 5 * time.Second

// statistics is what the pod's annotations say about them.
type statistics struct {
	flush    time.Duration // 0: Envoy's default
	eviction time.Duration // 0: series of the standard metrics stay
	buckets  []agent.HistogramBuckets
}

func (s *settings) statsMatcher() *agent.StatsMatcher {
	asked := s.proxy.ProxyStatsMatcher
	join := func(own, configured []string, annotation string) []string {
		if annotated := commaList(s.node.Annotations[annotation]); len(annotated) > 0 {
			configured = annotated
		}
		out := slices.Clone(own)
		for _, v := range configured {
			if !strings.Contains(v, podAddress) {
				out = append(out, v)
				continue
			}
			for _, ip := range s.node.IPs {
				out = append(out, strings.ReplaceAll(v, podAddress, ip))
			}
		}
		return out
	}
	return &agent.StatsMatcher{
		Prefixes: join(statPrefixes, asked.InclusionPrefixes, annotatedPrefixes),
		Suffixes: join(statSuffixes, asked.InclusionSuffixes, annotatedSuffixes),
		Regexes:  join(statRegexes, asked.InclusionRegexps, annotatedRegexes),
	}
}

// podAddress stands for each of the pod's addresses.
const podAddress = "{pod_ip}"

func commaList(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// readStatistics reads the annotations that are not lists of names.
func (s *settings) readStatistics(annotations map[string]string) error {
	st := &s.statistics
	var err error
	if st.flush, err = interval(annotations, annotatedFlush); err != nil {
		return err
	}
	if st.eviction, err = interval(annotations, annotatedEviction); err != nil {
		return err
	}
	flush := st.flush
	if flush == 0 {
		flush = defaultFlush
	}
	if st.eviction%flush != 0 {
		return fmt.Errorf("annotation %s is %q; want a multiple of the flush interval, %v", annotatedEviction, annotations[annotatedEviction], flush)
	}
	text := annotations[annotatedBuckets]
	if text == "" {
		return nil
	}
	var byPrefix map[string][]float64
	if err := json.Unmarshal([]byte(text), &byPrefix); err != nil {
		return fmt.Errorf("annotation %s: want a JSON object of lists of numbers: %w", annotatedBuckets, err)
	}
	for _, prefix := range slices.Sorted(maps.Keys(byPrefix)) {
		bounds := byPrefix[prefix]
		if len(bounds) == 0 || bounds[0] <= 0 || !slices.IsSorted(bounds) || len(slices.Compact(slices.Clone(bounds))) < len(bounds) {
			return fmt.Errorf("annotation %s: %q: want numbers over 0, each larger than the one before", annotatedBuckets, prefix)
		}
		st.buckets = append(st.buckets, agent.HistogramBuckets{Prefix: prefix, Bounds: bounds})
	}
	return nil
}

func interval(annotations map[string]string, name string) (time.Duration, error) {
	v := annotations[name]
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond {
		return 0, fmt.Errorf("annotation %s is %q; want a duration of 1ms or more, such as 5s", name, v)
	}
	return d, nil
}

// istioStats is what Istio's proxies put before the names of the standard
// metrics, by which annotations name their buckets.
const istioStats = "istiocustom."

// bounds are the buckets of one of the standard metrics; nil for the usual ones.
// As in Envoy the first prefix that matches counts.
func (st *statistics) bounds(metric string) []float64 {
	for _, b := range st.buckets {
		if strings.HasPrefix(istioStats+metric, b.Prefix) {
			return b.Bounds
		}
	}
	return nil
}
