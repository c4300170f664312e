package serve

import (
	"context"
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/discovery/jwks"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// A Desc tells what it describes only so.
var described = regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", unit: "(.*)", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

var constantLabel = regexp.MustCompile(`(\w+)="`)

// registered are the metrics of a control plane in a cluster, whose API server is
// not asked for anything; without those of Go and the process.
func registered(t *testing.T) []promtest.Metric {
	t.Helper()
	server := &rest.Config{Host: "https://127.0.0.1:1"}
	o := &Options{WebhookAddress: "127.0.0.1:0", Log: zap.NewNop()}
	source, err := kube.New(server, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{options: o, stale: source.Stale, unsaved: source.SaveFailures, plane: NewPlane(nil, snapshot.Options{})}
	defer r.plane.Server.Close()
	r.plane.TellBuild(o.Build)
	r.plane.FetchKeys(jwks.Options{})
	defer r.plane.keys.Close()
	if err := r.prepare(server, newSeenStatuses()); err != nil {
		t.Fatal(err)
	}
	defer func() { // which ends what it was made with
		ended, end := context.WithCancel(context.Background())
		end()
		if err := r.cluster.registrar.Run(ended); err != nil {
			t.Error(err)
		}
	}()
	r.cluster.certificates(r)
	newWebhooks(r.plane, o)
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		r.plane.Registry.Describe(all)
	}()
	var out []promtest.Metric
	for d := range all {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s cannot be read", d)
		}
		if !strings.HasPrefix(m[1], "go_") && !strings.HasPrefix(m[1], "process_") {
			out = append(out, promtest.Metric{Name: m[1], Help: strings.ReplaceAll(m[2], `\"`, `"`), Labels: labels(m[4], m[5])})
		}
	}
	return out
}

// labels are the names of a Desc's labels, those with a constant value first.
func labels(constant, variable string) string {
	var out []string
	for _, pair := range constantLabel.FindAllStringSubmatch(constant, -1) {
		out = append(out, pair[1])
	}
	if variable != "" {
		out = append(out, strings.Split(variable, ",")...)
	}
	return strings.Join(out, ", ")
}

// TestMetricsArePublic: every metric of the control plane is in docs/metrics.md,
// with what it means, and some test names it.
func TestMetricsArePublic(t *testing.T) {
	all := registered(t)
	for _, name := range []string{"pilot_xds", "pilot_eds_no_instances", "citadel_server_csr_count", "sidecar_injection_requests_total",
		"galley_validation_failed", "auto_registration_success_total", "pilotfish_state_stale_seconds"} {
		if !slices.ContainsFunc(all, func(m promtest.Metric) bool { return m.Name == name }) {
			t.Fatalf("%s is not among the %d that were found", name, len(all))
		}
	}
	promtest.Page(t, "..", "control plane", *update, all)
	for _, name := range promtest.Untested(t, "..", all, "registry_test.go", "alerts_test.go") {
		t.Errorf("no test names %s", name)
	}
}
