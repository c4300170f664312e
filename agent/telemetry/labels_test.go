package telemetry

import (
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
	})
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
	m := newMetrics()
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
	var h histogram
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
