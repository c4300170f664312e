package pod_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// Envoy starts with what an EnvoyFilter makes of its bootstrap, unless the pod does
// not want that.
func TestBootstrapPatches(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		t.Run(fmt.Sprint(wanted), func(t *testing.T) {
			w := newWorld(t, ca.Options{})
			w.write(filepath.Join(w.folder, "filter.yaml"), `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: stats, namespace: shop}
spec:
  workloadSelector: {labels: {app: app}}
  configPatches:
  - {applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {stats_config: {stats_tags: [{tag_name: team, fixed_value: blue}]}}}}
`)
			envoytest.Eventually(t, 20*time.Second, func() string {
				if m := w.plane.Store.Mesh(); m == nil || m.EnvoyFilters.Len() == 0 {
					return "the control plane has not read the EnvoyFilter"
				}
				return ""
			})
			r := w.start(w.options(nil, fmt.Sprintf("ENABLE_BOOTSTRAP_XDS=%t", wanted)))
			envoytest.Eventually(t, 20*time.Second, func() string {
				status, body, err := get(readyURL)
				if err != nil || status != http.StatusOK {
					return fmt.Sprint(status, body, err)
				}
				return ""
			})
			_, body, err := get("http://127.0.0.1:15000/stats/prometheus")
			if err != nil || strings.Contains(body, `team="blue"`) != wanted {
				t.Errorf("the tag is there: %t (%v), want %t", !wanted, err, wanted)
			}
			if _, err := os.Stat(filepath.Join(w.root, "etc/istio/proxy/envoy-rev.pb")); (err == nil) != wanted {
				t.Errorf("bootstrap in binary form: %v, want it %t", err, wanted)
			}
			r.stop()
			<-r.done
		})
	}
}
