package translate

import (
	"slices"

	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// logRules say which providers get access logs. Without said, nobody has
// asked for any by name, and the mesh's older settings count.
type logRules struct {
	said  bool
	rules []logRule
}

// logRule is one provider with the condition of entries, a CEL expression;
// empty for all.
type logRule struct{ provider, filter string }

// logRules follow telemetry/v1alpha1 AccessLogging: providers replace those of
// the level above, and without any are the same; later entries go before
// earlier ones.
func (s *settler) logRules(sources []*config.Telemetry) logRules {
	inherited := s.usable(s.ix.mesh.Settings.Mesh.GetDefaultProviders().GetAccessLogging(), useLogs)
	out := logRules{said: len(s.ix.mesh.Settings.Mesh.GetDefaultProviders().GetAccessLogging()) > 0}
	scope, entries := inherited, 0
	for _, t := range sources {
		entries += len(t.Spec.GetAccessLogging())
		if names := s.namedBy(t.Spec.GetAccessLogging()); len(names) > 0 {
			scope = names
		}
	}
	if entries == 0 {
		for _, name := range inherited {
			out.rules = append(out.rules, logRule{provider: name})
		}
		return out
	}
	out.said = true
	for _, t := range sources {
		for _, e := range t.Spec.GetAccessLogging() {
			names, counts := s.named(e.GetProviders(), useLogs)
			if !counts {
				continue
			}
			if len(names) == 0 {
				names = inherited
			}
			inherited = names
			if inMode(e.GetMatch().GetMode(), s.mode) {
				out.take(names, scope, e)
			}
		}
	}
	return out
}

// take puts one entry on top of those before.
func (r *logRules) take(names, scope []string, e *telemetry.AccessLogging) {
	for _, name := range names {
		if !slices.Contains(scope, name) {
			continue
		}
		r.rules = slices.DeleteFunc(r.rules, func(have logRule) bool { return have.provider == name })
		if !e.GetDisabled().GetValue() {
			r.rules = append(r.rules, logRule{provider: name, filter: e.GetFilter().GetExpression()})
		}
	}
}

// namedBy are the providers that the entries of one level name.
func (s *settler) namedBy(entries []*telemetry.AccessLogging) []string {
	var out []string
	for _, e := range entries {
		names, _ := s.named(e.GetProviders(), useLogs)
		out = append(out, names...)
	}
	return out
}
