package mesh

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// piecesOfCanary are the objects of a canary, for a host of its own.
var piecesOfCanary = map[string]string{
	"gateway": `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: canary}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [order.example.com]
`,
	"routes": `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: canary}
spec:
  hosts: [order.example.com, myapp]
  gateways: [canary, mesh]
  http:
  - route:
    - destination: {host: myapp, subset: v2}
`,
	"subsets": `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: canary}
spec:
  host: myapp
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
`,
}

// TestAnyOrder applies the objects of a canary in every order, and removes them
// in the same one: the requests between sidecars never notice, and what the
// objects say comes into effect each time.
func TestAnyOrder(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "order", "istio-injection=enabled")
	w.namespace(t, "order-outside")
	w.apply(t, "order", service("myapp")+application("myapp", "v1", 1)+application("myapp", "v2", 1))
	inside, outside := w.drive(t, "order", "client"), w.drive(t, "order-outside", "client")
	w.ready(t, "order", "app=myapp", 2)
	inside.reaches(t, "http://myapp.order/")
	inside.start(t, "steady", load{URL: "http://myapp.order/", Rate: 30})
	kinds := map[string]string{"gateway": "gateways.networking.istio.io/canary", "routes": "virtualservice/canary", "subsets": "destinationrule/canary"}
	for _, order := range permutations("gateway", "routes", "subsets") {
		for _, name := range order {
			w.apply(t, "order", piecesOfCanary[name])
		}
		shares(t, inside, "steady", 100)
		w.answers(t, outside, "order.example.com", 200)
		for _, name := range order {
			w.remove(t, "order", kinds[name])
		}
		w.answers(t, outside, "order.example.com", 404)
		if t.Failed() {
			t.Fatalf("in order %s", strings.Join(order, ", "))
		}
	}
	inside.end(t, "steady")
}

// answers waits until the gateway answers requests for a host with a status.
func (w *world) answers(t *testing.T, d *driver, host string, status int) {
	t.Helper()
	w.await(t, fmt.Sprintf("%s to answer %d", host, status), func(ctx context.Context) error {
		f, err := d.fetch(ctx, "http://istio-ingressgateway.istio-system/", map[string]string{"Host": host})
		if err != nil {
			return err
		}
		// A listener that has gone refuses connections.
		if f.Status != status && !(status == 404 && f.Status == 0 && strings.Contains(f.Error, "refused")) {
			return fmt.Errorf("%d %s", f.Status, f.Error)
		}
		return nil
	})
}

func permutations(of ...string) [][]string {
	if len(of) < 2 {
		return [][]string{of}
	}
	var out [][]string
	for i := range of {
		rest := append(append([]string(nil), of[:i]...), of[i+1:]...)
		for _, p := range permutations(rest...) {
			out = append(out, append([]string{of[i]}, p...))
		}
	}
	return out
}
