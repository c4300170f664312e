package serve_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

const waitingApp = `
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {selector: {app: app}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop, labels: {app: app, version: v1}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop, labels: {app: app, version: v2}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.0.0.2}
`

func waitingRoute(subset string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: app, namespace: shop}\n" +
		"spec: {hosts: [app], http: [{route: [{destination: {host: app, subset: " + subset + "}}]}]}\n"
}

func waitingRule(subsets string) string {
	return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: app, namespace: shop}\nspec: {host: app, subsets: [" + subsets + "]}\n"
}

// A change that waits is no change on the page: it is told as waiting, and its
// diff is from what was in effect before to what is in effect after it.
func TestPageIsAboutWhatIsInEffect(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		// In one step: a file that is seen half written is another change.
		at := filepath.Join(dir, "."+name)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("app.yaml", waitingApp)
	write("route.yaml", waitingRoute("v1"))
	write("rule.yaml", waitingRule("{name: v1, labels: {version: v1}}"))
	plane := serve.NewPlane([]serve.NamedSource{{Name: file.Name, Source: file.New([]string{dir})}}, snapshot.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	t.Cleanup(plane.Server.Close)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	live := report.NewLive("waiting", plane.InEffect, nil)
	until := func(texts ...string) string {
		t.Helper()
		var page string
		envoytest.Eventually(t, 20*time.Second, func() string {
			w := httptest.NewRecorder()
			live.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			page = w.Body.String()
			for _, text := range texts {
				if !strings.Contains(page, text) {
					return "the page does not say " + text + ": " + page
				}
			}
			return ""
		})
		return page
	}
	until("Nothing has changed", "Nothing found")
	write("route.yaml", waitingRoute("v2"))
	until("Waiting", "Nothing has changed")
	write("rule.yaml", waitingRule("{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}"))
	page := until("The last change", "Nothing found")
	for _, text := range []string{"<dt>before</dt><dd>100 % shop/one v1", "<dt>after</dt><dd>100 % shop/two v2"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not say %s: %s", text, page)
		}
	}
}
