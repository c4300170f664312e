package telemetry

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestServiceOf(t *testing.T) {
	for _, c := range []struct {
		metadata, cluster, authority string
		want                         service
	}{
		{`[{"host":"a.shop.svc.cluster.local","name":"a","namespace":"shop"}]`, "inbound|8080||", "x", service{"a.shop.svc.cluster.local", "a", "shop"}},
		{"-", "outbound|80|v1|a.shop.svc.cluster.local", "x", service{"a.shop.svc.cluster.local", "a", "shop"}},
		{"broken", "outbound|443||outside.example.com", "", service{"outside.example.com", "outside.example.com", ""}},
		{"", "PassthroughCluster", "outside.example.com:8443", service{"outside.example.com", "PassthroughCluster", ""}},
		{"", "", "", service{}},
	} {
		if got := serviceOf(c.metadata, c.cluster, c.authority); got != c.want {
			t.Errorf("%q %q: %+v, want %+v", c.metadata, c.cluster, got, c.want)
		}
	}
}

// What an endpoint or a certificate says stands in for the control plane's
// word, and an address that has changed hands is not believed.
func TestPeers(t *testing.T) {
	const id = "spiffe://cluster.local/ns/shop/sa/app"
	r := NewReceiver(Workload{Name: "me"}, func(address string) (Workload, bool) {
		switch address {
		case "10.0.0.1":
			return Workload{Name: "app-v1", Namespace: "shop"}, true
		case "10.0.0.2":
			return Workload{Name: "thief", Namespace: "other"}, true
		}
		return Workload{}, false
	}, nil)
	for _, c := range []struct {
		address, principal, endpoint string
		want                         Workload
	}{
		{"10.0.0.1", id, "", Workload{Name: "app-v1", Namespace: "shop", Principal: id}},
		{"10.0.0.1", "", "", Workload{Name: "app-v1", Namespace: "shop"}},
		{"10.0.0.2", id, "", Workload{Namespace: "shop", Principal: id}},
		{"10.0.0.3", "", "-", Workload{}},
		{"10.0.0.3", id, "w;shop;c;;K", Workload{
			Name: "w", Namespace: "shop", Principal: id, App: "c", CanonicalService: "c", CanonicalRevision: "latest", Cluster: "K",
		}},
	} {
		if got := r.other(c.address, c.principal, c.endpoint); got != c.want {
			t.Errorf("%s %s %s: %+v, want %+v", c.address, c.principal, c.endpoint, got, c.want)
		}
	}
}

func TestSeriesAreBoundedAndQuoted(t *testing.T) {
	m := newMetrics(nil)
	_, usual := logOf(outboundLog)
	for i := range maxSeries + 10 {
		m.request(labels{code: strings.Repeat("x", i%2+1), service: service{Host: "h\"\n" + string(rune('a'+i%26)), Name: strconv.Itoa(i)}}, usual, nil, &request{milliseconds: 1, in: 2, out: 3})
	}
	var b strings.Builder
	m.Write(&b)
	if n := strings.Count(b.String(), "\nistio_requests_total{"); n != maxSeries {
		t.Errorf("%d series, want %d", n, maxSeries)
	}
	if !strings.Contains(b.String(), "pilotfish_agent_metrics_dropped_total 10\n") || !strings.Contains(b.String(), `destination_service="h\"\na"`) {
		t.Error("dropped ones are not counted, or a label is not quoted")
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram(bounds)
	for _, v := range []float64{0.5, 0.6, 4e6} {
		h.observe(v)
	}
	var b strings.Builder
	h.write(&b, "x", "l")
	for _, want := range []string{`x_bucket{l,le="0.5"} 1`, `x_bucket{l,le="1"} 2`, `x_bucket{l,le="3600000"} 2`, `x_bucket{l,le="+Inf"} 3`, "x_count{l} 3"} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

// A series that nothing was added to between two evictions goes, and what comes
// later is counted from the beginning; the others stay.
func TestEviction(t *testing.T) {
	m := newMetrics(nil)
	_, usual := logOf(outboundLog)
	count := func(code string) {
		m.request(labels{code: code}, usual, nil, &request{milliseconds: 1})
	}
	requests := func(code string) string {
		var b strings.Builder
		m.Write(&b)
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, "istio_requests_total{") && strings.Contains(line, `response_code="`+code+`"`) {
				return strings.TrimSpace(line[strings.LastIndex(line, " "):])
			}
		}
		return "none"
	}
	for _, step := range []struct {
		count        []string
		ok, notFound string
	}{
		{[]string{"200", "404"}, "1", "1"},
		{[]string{"200"}, "2", "none"},
		{[]string{"404"}, "none", "1"},
	} {
		for _, code := range step.count {
			count(code)
		}
		m.Evict()
		if ok, notFound := requests("200"), requests("404"); ok != step.ok || notFound != step.notFound {
			t.Errorf("after %v: %s and %s, want %s and %s", step.count, ok, notFound, step.ok, step.notFound)
		}
	}
}

func TestOwnBuckets(t *testing.T) {
	m := newMetrics(func(metric string) []float64 {
		if metric == durationName {
			return []float64{2, 20}
		}
		return nil
	})
	_, usual := logOf(outboundLog)
	m.request(labels{code: "200"}, usual, nil, &request{milliseconds: 7, in: 7})
	var b strings.Builder
	m.Write(&b)
	var got []string
	for line := range strings.Lines(b.String()) {
		if name, rest, ok := strings.Cut(line, "{"); ok && strings.HasSuffix(name, "_bucket") && !strings.Contains(name, "response_bytes") {
			_, le, _ := strings.Cut(rest, "le=")
			got = append(got, strings.TrimPrefix(name, "istio_request_")+" "+strings.TrimSpace(le))
		}
	}
	want := []string{`duration_milliseconds_bucket "2"} 0`, `duration_milliseconds_bucket "20"} 1`, `duration_milliseconds_bucket "+Inf"} 1`, `bytes_bucket "0.5"} 0`}
	if len(got) < 4+len(bounds)-1 || !slices.Equal(got[:4], want) {
		t.Errorf("buckets %q, want %q and so on", got, want)
	}
}
