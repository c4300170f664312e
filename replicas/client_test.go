package replicas_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/replicas"
)

// Every replica is asked, with the token if there is one, and one that does not
// answer is named with its reason.
func TestHeld(t *testing.T) {
	replica := func(generation int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			switch {
			case r.Header.Get("Authorization") != "Bearer secret":
				http.Error(w, "who are you?", http.StatusUnauthorized)
			case r.URL.Path != "/debug/held" || q.Get("kind")+"/"+q.Get("namespace")+"/"+q.Get("name") != "VirtualService/shop/web":
				http.NotFound(w, r)
			default:
				_, _ = fmt.Fprintf(w, `{"read":"x","effective":"x","generation":%d,"proxies":[{"proxy":"a","newest":true}]}`, generation)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	c := &replicas.Client{Set: replicas.Fixed{replica(1), replica(2) + "/"}, Token: "secret"}
	held, err := c.Held(t.Context(), "VirtualService", "shop", "web")
	if err != nil || len(held) != 2 || held[0].Generation != 1 || held[1].Generation != 2 || !held[1].Proxies[0].Newest {
		t.Errorf("%+v, %v", held, err)
	}
	c.Token = ""
	if _, err := c.Held(t.Context(), "VirtualService", "shop", "web"); err == nil || !strings.HasSuffix(err.Error(), ": 401 Unauthorized: who are you?") {
		t.Error(err)
	}
	c.Set = replicas.Fixed{"http://127.0.0.1:1"}
	if _, err := c.Held(t.Context(), "VirtualService", "shop", "web"); err == nil || !strings.HasPrefix(err.Error(), "http://127.0.0.1:1: ") || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}
