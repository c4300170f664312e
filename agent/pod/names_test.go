package pod_test

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The control plane's names reach the pod, and so does a change of them.
func TestNamesOfTheMesh(t *testing.T) {
	w := newWorld(t, ca.Options{})
	w.file("/etc/resolv.conf", "nameserver 127.0.0.77\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n")
	r := w.start(w.options(nil, "ISTIO_META_DNS_CAPTURE=true"))
	w.awaitReady(r)
	client := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:15053")
	}}
	await := func(name, want string) {
		t.Helper()
		envoytest.Eventually(t, 20*time.Second, func() string {
			got, err := client.LookupHost(context.Background(), name)
			if !slices.Contains(got, want) {
				return name + ": " + errText(err)
			}
			return ""
		})
	}
	await("app.", "10.96.0.7")
	await("app.shop.svc.cluster.local.", "10.96.0.7")
	w.write(w.folder+"/more.yaml", `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [outside.example.com]
  addresses: [240.0.0.9]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
  ports: [{number: 80, name: http, protocol: HTTP}]
`)
	await("outside.example.com.", "240.0.0.9")

	// A name of nobody, and a server for such names that does not answer.
	if _, err := client.LookupHost(t.Context(), "nobody.example.org."); err == nil {
		t.Error("nobody has an address")
	}
	_, body, err := get("http://" + podIP + ":15020/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	counted := func(name string) int {
		t.Helper()
		_, after, _ := strings.Cut(body, "\n"+name+" ")
		line, _, _ := strings.Cut(after, "\n")
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return n
	}
	all, upstream, failed := counted("istio_agent_dns_requests_total"), counted("istio_agent_dns_upstream_requests_total"), counted("istio_agent_dns_upstream_failures_total")
	if upstream < 1 || failed != upstream || all < upstream+3 {
		t.Errorf("%d questions, %d of which went on, %d of which had no answer", all, upstream, failed)
	}
}

func errText(err error) string {
	if err == nil {
		return "another answer"
	}
	return err.Error()
}
