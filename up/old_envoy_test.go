package up_test

import (
	"net/http"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// An Envoy of an older release takes all that it is sent: what it does not know is
// left out.
func TestOlderEnvoy(t *testing.T) {
	for example, want := range map[string]int{ // of a request by each gateway that it has
		"canary":              http.StatusOK,
		"tracing":             http.StatusOK,
		"access-control":      http.StatusOK,
		"jwt":                 http.StatusForbidden, // without a token
		"rate-limiting-local": http.StatusOK,
	} {
		t.Run(example, func(t *testing.T) {
			m, _ := start(t, up.Options{Paths: []string{"../examples/" + example}, Mode: up.Loopback, Envoy: envoytest.Old(t)})
			for _, p := range m.Plane().Problems() {
				if p.Code == "ProxyRejected" {
					t.Errorf("%.400s", p)
				}
			}
			for _, g := range m.Gateways() {
				resp, err := http.Get(g.URL())
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%s: %s, want %d", g.URL(), resp.Status, want)
				}
			}
		})
	}
}
