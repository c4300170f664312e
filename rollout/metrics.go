package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// side names the requests to one version of a service, as metrics do.
type side struct {
	host    host
	version string // empty: every version
}

// sides are what a rollout compares.
type sides struct{ to, from []side }

// queryTimeout bounds one question to Prometheus.
const queryTimeout = 10 * time.Second

// Metrics reads Istio's standard metrics from a Prometheus.
type Metrics struct{ api prometheus.API }

// NewMetrics asks the Prometheus at a URL. header is added to each request,
// for a proxy before it that wants to know who asks.
func NewMetrics(url string, header http.Header) (*Metrics, error) {
	c, err := api.NewClient(api.Config{Address: url, RoundTripper: withHeader{header, api.DefaultRoundTripper}})
	if err != nil {
		return nil, err
	}
	return &Metrics{prometheus.NewAPI(c)}, nil
}

type withHeader struct {
	header http.Header
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(w.header) > 0 {
		r = r.Clone(r.Context())
		for k, v := range w.header {
			r.Header[k] = v
		}
	}
	return w.next.RoundTrip(r)
}

// series identifies a counter: one that starts anew when its proxy does.
type series struct {
	new      bool // the new version's
	reporter string
	failed   bool
	le       float64 // a bucket's bound in ms; 0: a counter of requests
	instance string
	labels   string // what else tells counters of an instance apart
}

// kept are the labels that counters are summed by. Everything else, such as
// the client, only multiplies what must be sent.
const kept = "reporter,destination_version,destination_canonical_revision,response_code,grpc_response_status,instance,pod"

// read is the present value of every counter about the sides.
func (m *Metrics) read(ctx context.Context, s sides) (map[series]float64, error) {
	out := map[series]float64{}
	for _, h := range s.hosts() {
		of := fmt.Sprintf(`destination_service=%q`, h.name)
		if h.namespace != "" {
			of = fmt.Sprintf(`destination_service_name=%q,destination_service_namespace=%q`, h.name, h.namespace)
		}
		for _, q := range []string{
			fmt.Sprintf("sum by (%s) (istio_requests_total{%s})", kept, of),
			fmt.Sprintf("sum by (%s,le) (istio_request_duration_milliseconds_bucket{%s})", kept, of),
		} {
			if err := m.query(ctx, q, h, s, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (m *Metrics) query(ctx context.Context, q string, h host, s sides, out map[series]float64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	value, _, _, err := m.api.Query(ctx, q, time.Time{})
	if err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return fmt.Errorf("prometheus: answered with a %s to a question for a vector", value.Type())
	}
	for _, sample := range vector {
		v := float64(sample.Value)
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return fmt.Errorf("prometheus: a counter has the value %v: %s", v, sample.Metric)
		}
		key, ok, err := seriesOf(sample.Metric, h, s)
		if err != nil {
			return err
		}
		if ok {
			out[key] += v
		}
	}
	return nil
}

func seriesOf(m model.Metric, h host, s sides) (key series, ok bool, err error) {
	label := func(name string) string { return string(m[model.LabelName(name)]) }
	versions := []string{label("destination_version"), label("destination_canonical_revision")}
	key = series{reporter: label("reporter"), instance: label("instance") + "/" + label("pod"), labels: m.String()}
	switch {
	case among(s.to, h, versions, key.reporter):
		key.new = true
	case !among(s.from, h, versions, key.reporter):
		return key, false, nil
	}
	key.failed = failed(label("response_code"), label("grpc_response_status"))
	if le := label("le"); le != "" {
		if key.le, err = strconv.ParseFloat(le, 64); err != nil {
			return key, false, fmt.Errorf("prometheus: a bucket with le=%q", le)
		}
	}
	return key, true, nil
}

// among reports whether metrics of a host with these versions are about one of
// the sides. Servers do not know by which of their Services they were called:
// where only the Service tells sides apart, only clients' metrics count.
func among(list []side, h host, versions []string, reporter string) bool {
	return slices.ContainsFunc(list, func(s side) bool {
		if s.host != h {
			return false
		}
		if s.version == "" {
			return reporter == "source"
		}
		return slices.Contains(versions, s.version)
	})
}

// serverFaults are the gRPC status codes for which the server is to blame.
var serverFaults = []string{
	"2",  // UNKNOWN
	"4",  // DEADLINE_EXCEEDED
	"12", // UNIMPLEMENTED
	"13", // INTERNAL
	"14", // UNAVAILABLE
	"15", // DATA_LOSS
}

func failed(code, grpc string) bool {
	return strings.HasPrefix(code, "5") && len(code) == 3 || slices.Contains(serverFaults, grpc)
}

func (s sides) hosts() []host {
	var out []host
	for _, x := range append(slices.Clone(s.to), s.from...) {
		if !slices.Contains(out, x.host) {
			out = append(out, x.host)
		}
	}
	return out
}

// counts are requests to one side as one reporter saw them.
type counts struct {
	requests, errors float64
	buckets          map[float64]float64 // cumulative, by upper bound in ms
}

// observation is what has happened since a step took effect.
type observation struct {
	last     map[series]float64
	new, old map[string]*counts // by reporter
}

// observe begins with a first reading.
func observe(first map[series]float64) *observation {
	return &observation{last: first, new: map[string]*counts{}, old: map[string]*counts{}}
}

// add takes the next reading. A counter that is lower than it was began anew;
// one that was not there before began since.
func (o *observation) add(now map[series]float64) {
	for key, v := range now {
		grown := v
		if before, ok := o.last[key]; ok && v >= before {
			grown = v - before
		}
		o.last[key] = v // a series that goes away keeps its last value
		of := o.old
		if key.new {
			of = o.new
		}
		c := of[key.reporter]
		if c == nil {
			c = &counts{buckets: map[float64]float64{}}
			of[key.reporter] = c
		}
		switch {
		case key.le != 0:
			c.buckets[key.le] += grown
		case key.failed:
			c.errors += grown
			c.requests += grown
		default:
			c.requests += grown
		}
	}
}

// bounds are the buckets' upper bounds, rising.
func (c *counts) bounds() []float64 {
	var out []float64
	for le := range c.buckets {
		out = append(out, le)
	}
	slices.Sort(out)
	return out
}

// timed is how many requests the buckets hold.
func (c *counts) timed() float64 { return c.buckets[math.Inf(1)] }

// slower is how many requests took longer than limit ms; within a bucket they
// count as evenly spread, as in Prometheus' histogram_quantile.
func (c *counts) slower(limit float64) float64 {
	lower, below := 0.0, 0.0
	for _, le := range c.bounds() {
		n := c.cumulative(le)
		if limit < le {
			if math.IsInf(le, 1) {
				return c.timed() - below // beyond the last bound nothing is known
			}
			return c.timed() - below - (n-below)*(limit-lower)/(le-lower)
		}
		lower, below = le, n
	}
	return 0
}

// cumulative is a bucket's count. A scrape that came between two counters of
// one histogram cannot make it more than there are.
func (c *counts) cumulative(le float64) float64 { return min(c.buckets[le], c.timed()) }

// p99 is the 99th percentile in ms; not ok without requests.
func (c *counts) p99() (ms float64, ok bool) {
	rank := 0.99 * c.timed()
	if rank == 0 {
		return 0, false
	}
	lower, below := 0.0, 0.0
	for _, le := range c.bounds() {
		n := c.cumulative(le)
		if n >= rank {
			if math.IsInf(le, 1) {
				return lower, true
			}
			return lower + (le-lower)*(rank-below)/(n-below), true
		}
		lower, below = le, n
	}
	return lower, true
}

// errNoData says that Prometheus knows nothing of the new version.
var errNoData = errors.New("prometheus has no data about the new version")
