package serve

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// refusalType is the type URL under which agents, which stand between ECDS and
// their Envoy, tell what of it that refuses. Names are those of extensions, each
// with the reason after a space; they are all that there are at present.
const refusalType = "type.googleapis.com/pilotfish.extensions.v1.Refusal"

// Bounds of what one proxy may tell.
const (
	mostRefusals = 64
	mostReason   = 1024 // bytes
)

// refusals keep what proxies have told, as long as they are connected.
type refusals struct {
	mesh      func() *config.Mesh
	connected func() []snapshot.ProxyStatus

	mu sync.Mutex
	of map[string][]string // by the proxy's id
}

// answer implements snapshot.Answer.
func (r *refusals) answer(_ context.Context, q snapshot.Question) (snapshot.Reply, error) {
	if q.Proxy == nil {
		return snapshot.Reply{}, nil // a tool has no Envoy
	}
	told := slices.Clone(q.Names[:min(len(q.Names), mostRefusals)])
	for i, t := range told {
		told[i] = strings.ToValidUTF8(t[:min(len(t), mostReason)], "")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.of, q.Proxy.ID); len(told) > 0 {
		r.of[q.Proxy.ID] = told
	}
	return snapshot.Reply{}, nil
}

// problems are one for each extension and reason.
func (r *refusals) problems() []config.Problem {
	r.mu.Lock()
	empty := len(r.of) == 0
	r.mu.Unlock()
	m := r.mesh()
	if empty || m == nil {
		return nil
	}
	here := map[string]bool{}
	for _, p := range r.connected() {
		here[p.Proxy.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []config.Problem
	told := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(r.of)) {
		if !here[id] {
			delete(r.of, id)
			continue
		}
		for _, t := range r.of[id] {
			name, reason, _ := strings.Cut(t, " ")
			if meta := extensionNamed(m, name); meta != nil && !told[t] {
				told[t] = true
				out = append(out, config.At(meta, "", config.Error, "ProxyRejected",
					"the Envoy of proxy %s refuses the extension; what it had before stays in effect, and without that the requests that the extension is for are refused, or let pass if it fails open: %s", id, reason))
			}
		}
	}
	return out
}

// extensionNamed is the object that an extension's resource was made of
// (extensions.istio.io/<kind>/[network/]<namespace>.<name>); nil if it is gone.
func extensionNamed(m *config.Mesh, resource string) *config.Meta {
	rest, ok := strings.CutPrefix(resource, discovery.ExtensionsGroup+"/")
	kind, rest, ok2 := strings.Cut(rest, "/")
	namespace, name, ok3 := strings.Cut(strings.TrimPrefix(rest, "network/"), ".")
	if !ok || !ok2 || !ok3 {
		return nil
	}
	switch kind {
	case "wasmplugin":
		if p, ok := m.WasmPlugins.Get(namespace, name); ok {
			return &p.Meta
		}
	case "trafficextension":
		if p, ok := m.TrafficExtensions.Get(namespace, name); ok {
			return &p.Meta
		}
	}
	return nil
}
