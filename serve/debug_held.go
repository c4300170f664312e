package serve

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/replicas/held"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// held is the page; the object is named by query parameters.
func (p *Pages) held(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	m := p.Plane.Store.Mesh()
	if m == nil {
		http.Error(w, "waiting for the first complete view of the configuration", http.StatusServiceUnavailable)
		return
	}
	out := held.Page{Object: config.Key{Kind: q.Get("kind"), Namespace: q.Get("namespace"), Name: q.Get("name")}, Proxies: []held.Proxy{}}
	for _, meta := range m.ChangedObjects(nil) {
		if meta.Kind == out.Object.Kind && meta.Namespace == out.Object.Namespace && meta.Name == out.Object.Name {
			out.Object, out.Read = meta.Key, meta.Hash.String()
		}
	}
	status := map[string]*snapshot.ProxyStatus{}
	all := p.proxies(r)
	for i := range all {
		status[all[i].Proxy.ID] = &all[i]
	}
	effective, holders := p.Plane.Distribution().Of(out.Object)
	if effective != nil {
		out.Effective, out.Generation = effective.Hash.String(), effective.Generation
	}
	for _, problem := range p.Plane.Problems() {
		if problem.Object == out.Object {
			out.Problems = append(out.Problems, problem)
		}
	}
	for _, h := range holders {
		by := held.Proxy{Proxy: h.Proxy.ID, Newest: h.Newest}
		s := status[h.Proxy.ID]
		if s == nil {
			continue // it has just left, or the caller may not see it
		}
		if !h.Newest {
			by.Generation, by.Why = h.Generation, behind(s, out.Problems)
		}
		out.Proxies = append(out.Proxies, by)
	}
	writeJSON(w, r, out)
}

// behind is why a proxy has not acknowledged what is in effect.
func behind(s *snapshot.ProxyStatus, problems []config.Problem) string {
	var pending []string
	for _, t := range s.Types {
		switch t.Sync {
		case snapshot.Failed:
			if t.Error != "" {
				return fmt.Sprintf("it rejected %s: %s", t.Short, t.Error)
			}
			pending = append(pending, t.Short)
		case snapshot.Stale:
			pending = append(pending, t.Short)
		}
	}
	for _, p := range problems {
		if p.Code == "ProxyRejected" {
			return p.Message
		}
	}
	if len(pending) > 0 {
		return "it has not acknowledged " + strings.Join(pending, ", ") + " yet"
	}
	return "it has not been sent it yet"
}
