package serve

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// heldVersion is which version of an object one proxy has, in istiod's shape:
// generations, as text, by resource type. All types follow a change together
// here, so that they are the same.
type heldVersion struct {
	Proxy        string `json:"proxy"`
	ClusterAcked string `json:"cluster_acked,omitempty"`
	ListenAcked  string `json:"listener_acked,omitempty"`
	RouteAcked   string `json:"route_acked,omitempty"`
	EndpointAck  string `json:"endpoint_acked,omitempty"`
	// Newest: it has the version in effect; istiod has no such field.
	Newest bool `json:"newest"`
}

// configDistribution says which version of an object (query parameter resource:
// Kind/namespace/name, before it group and version or nothing) each proxy has
// that is connected to this replica; proxy_namespace limits the proxies.
func (p *Pages) configDistribution(w http.ResponseWriter, r *http.Request) {
	key, err := parseResource(r.URL.Query().Get("resource"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	effective, held := p.Plane.Distribution().Of(key)
	if effective == nil {
		http.Error(w, fmt.Sprintf("no version of %s is in effect", key), http.StatusNotFound)
		return
	}
	of, _ := r.Context().Value(callerKey{}).(string)
	ns, out := r.URL.Query().Get("proxy_namespace"), []heldVersion{}
	for _, h := range held {
		if ns != "" && h.Proxy.Namespace != ns || of != "" && h.Proxy.Namespace != of {
			continue
		}
		v := heldVersion{Proxy: h.Proxy.ID, Newest: h.Newest}
		if h.Generation > 0 {
			text := strconv.FormatInt(h.Generation, 10)
			v.ClusterAcked, v.ListenAcked, v.RouteAcked, v.EndpointAck = text, text, text, text
		}
		out = append(out, v)
	}
	writeJSON(w, r, out)
}

// parseResource reads Kind/namespace/name, or group/version/Kind/namespace/name.
func parseResource(text string) (config.Key, error) {
	parts := strings.Split(text, "/")
	if n := len(parts); n == 3 || n == 5 {
		kind, ns, name := parts[n-3], parts[n-2], parts[n-1]
		if group, ok := istioGroup(kind); ok && ns != "" && name != "" {
			return config.Key{Group: group, Kind: kind, Namespace: ns, Name: name}, nil
		}
	}
	return config.Key{}, fmt.Errorf("resource %q: want Kind/namespace/name of one of Istio's kinds", text)
}
