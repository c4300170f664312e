package translate

import (
	"slices"

	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// telemetryRules is what Telemetry resources and the mesh's default providers
// come to for one side of a workload, settled.
type telemetryRules struct {
	logs    logRules
	metrics metricRules
	trace   traceRule
	// used are the providers in effect that send to a service, by name, with
	// where that is. One that is not here cannot be used.
	used map[string]*site
	// sources are the Telemetry resources that all this follows from.
	sources []*config.Telemetry
}

func (r *telemetryRules) addTo(h config.Hasher) {
	h.Uint(uint64(len(r.sources)))
	for _, t := range r.sources {
		h.Hash(t.Hash)
	}
	h.Uint(uint64(len(r.used)))
	for _, name := range sortedKeys(r.used) {
		h.Str(name, r.used[name].cluster())
	}
}

// gatherTelemetry settles what is told of the scope's proxies. A sidecar's
// outbound side and a gateway are clients, a sidecar's inbound side a server.
func (ix *Index) gatherTelemetry(s *Scope) {
	sources := ix.telemetriesFor(s.Class.Namespace, s.Labels)
	s.telemetry = ix.settleTelemetry(sources, sideMode(s.Class.Side), s.Class.Namespace)
	if s.Class.Side == Inbound {
		return
	}
	used := s.telemetry.used
	if s.Class.Side == Outbound {
		// The inbound side has no clusters of its own to send to.
		for name, at := range ix.settleTelemetry(sources, telemetry.WorkloadMode_SERVER, s.Class.Namespace).used {
			used[name] = at
		}
	}
	ix.gatherCollectors(s, used)
}

// gatherCollectors finds the services that providers send to and that are not
// in the scope's reach: a listener that names a cluster which does not exist
// would be refused.
func (ix *Index) gatherCollectors(s *Scope, used map[string]*site) {
	for _, name := range sortedKeys(used) {
		at := used[name]
		if slices.ContainsFunc(s.Egress, func(e *Egress) bool { return e.reaches(at) }) {
			continue
		}
		v := ix.shareVisible(nil, at.service, ix.ruleFor(at.service, s.Class.Namespace, s.Labels)).onPort(at.port.Number)
		if v != nil && !slices.ContainsFunc(s.collectors, func(o *VisibleService) bool { return o.Hash == v.Hash }) {
			s.collectors = append(s.collectors, v)
		}
	}
}

// reaches reports whether a view has the cluster of a place.
func (e *Egress) reaches(at *site) bool {
	v := e.service(at.service.Hostname)
	return v != nil && slices.ContainsFunc(v.InReach, func(p config.ServicePort) bool { return p.Number == at.port.Number })
}

func sideMode(s Side) telemetry.WorkloadMode {
	if s == Inbound {
		return telemetry.WorkloadMode_SERVER
	}
	return telemetry.WorkloadMode_CLIENT
}

// inMode reports whether something said for a mode counts in another that is
// client or server.
func inMode(said, mode telemetry.WorkloadMode) bool {
	return said == telemetry.WorkloadMode_CLIENT_AND_SERVER || said == mode
}

// telemetriesFor are the resources for a workload, the more specific later:
// one of the root namespace, one of the workload's own, one that selects the
// workload. Of several at one level the oldest counts.
func (ix *Index) telemetriesFor(namespace string, labels map[string]string) []*config.Telemetry {
	var out []*config.Telemetry
	add := func(ns string, narrow bool) {
		var found *config.Telemetry
		for _, t := range ix.mesh.Telemetries.In(ns) {
			if isNarrow(t) != narrow || !attaches(t.Spec, ns, namespace, labels) {
				continue
			}
			if found == nil || t.Before(&found.Meta) {
				found = t
			}
		}
		if found != nil {
			out = append(out, found)
		}
	}
	root := ix.mesh.RootNamespace()
	add(root, false)
	if namespace != root {
		add(namespace, false)
	}
	add(namespace, true)
	return out
}

// isNarrow reports whether a Telemetry is not for its whole namespace.
func isNarrow(t *config.Telemetry) bool {
	return len(t.Spec.GetSelector().GetMatchLabels()) > 0 || len(targetRefs(t.Spec)) > 0
}

// settler settles one mode of one namespace's workloads.
type settler struct {
	ix        *Index
	mode      telemetry.WorkloadMode
	namespace string
	used      map[string]*site
}

func (ix *Index) settleTelemetry(sources []*config.Telemetry, mode telemetry.WorkloadMode, namespace string) telemetryRules {
	s := &settler{ix: ix, mode: mode, namespace: namespace, used: map[string]*site{}}
	out := telemetryRules{sources: sources, used: s.used}
	out.logs = s.logRules(sources)
	out.metrics = s.metricRules(sources)
	out.trace = s.traceRule(sources)
	s.findSampler(out.trace.provider)
	for name := range s.used {
		if name != out.trace.provider && name != dynatraceName && !slices.ContainsFunc(out.logs.rules, func(r logRule) bool { return r.provider == name }) {
			delete(s.used, name) // replaced or disabled later on
		}
	}
	return out
}

// findSampler notes where the sampler of a tracing provider asks how much to
// sample, if that is not where the spans go.
func (s *settler) findSampler(name string) {
	own := provider(s.ix.mesh.Settings.Mesh, name).GetOpentelemetry().GetDynatraceSampler().GetHttpService()
	if own == nil {
		return
	}
	if at, ok := s.ix.site(own.GetService(), own.GetPort(), s.namespace); ok {
		s.used[dynatraceName] = at
	}
}

// usable are those of the named providers that can be used, which are noted.
// The others are reported as problems, and count as if nobody had named them.
func (s *settler) usable(names []string, u use) []string {
	var out []string
	for _, name := range names {
		if code, _ := s.ix.providerFault(name, u, s.namespace); code != "" || slices.Contains(out, name) {
			continue
		}
		if t, ok := targetOf(provider(s.ix.mesh.Settings.Mesh, name)); ok {
			s.used[name], _ = s.ix.site(t.service, t.port, s.namespace)
		}
		out = append(out, name)
	}
	return out
}

// named are the names of an entry's providers that can be used. It does not
// count at all if none of those that it names can.
func (s *settler) named(refs []*telemetry.ProviderRef, u use) (names []string, counts bool) {
	all := make([]string, len(refs))
	for i, r := range refs {
		all[i] = r.GetName()
	}
	names = s.usable(all, u)
	return names, len(refs) == 0 || len(names) > 0
}
