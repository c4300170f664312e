package translate

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// tally counts how many objects say each of some texts, so that the texts that
// any of them says are known after a change of one without a look at the others.
type tally map[string]int

// sorted are the texts.
func (t tally) sorted() []string { return slices.Sorted(maps.Keys(t)) }

// count adds n for each text.
func (t tally) count(n int, texts ...string) {
	for _, text := range texts {
		if t[text] += n; t[text] == 0 {
			delete(t, text)
		}
	}
}

// tallied is the tally of the objects of now, made of the tally of those of
// before.
func tallied[T interface {
	config.Keyed
	comparable
}](t tally, now, before config.Index[T], texts func(T) []string) tally {
	if t != nil && now.Same(before) {
		return t
	}
	next := maps.Clone(t)
	if next == nil {
		next = tally{}
	}
	var none T
	for old, o := range now.Changed(before) {
		if old != none {
			next.count(-1, texts(old)...)
		}
		if o != none {
			next.count(1, texts(o)...)
		}
	}
	return next
}

// testedKeys are the label keys that the selectors of each kind test, and the
// names of ports that Services target.
type testedKeys struct {
	services, virtualServices, rules, priorities, gateways, sidecars tally
	envoyFilters, telemetries, modules, extensions                   tally
	peers, tokens, policies                                          tally
	portNames                                                        tally
}

func (t testedKeys) next(m, was *config.Mesh) testedKeys {
	return testedKeys{
		services:        tallied(t.services, m.Services, was.Services, func(s *config.Service) []string { return keysOf(s.Selector) }),
		virtualServices: tallied(t.virtualServices, m.VirtualServices, was.VirtualServices, sourceLabelKeys),
		rules: tallied(t.rules, m.DestinationRules, was.DestinationRules, func(r *config.DestinationRule) []string {
			return keysOf(r.Spec.GetWorkloadSelector().GetMatchLabels())
		}),
		priorities: tallied(t.priorities, m.DestinationRules, was.DestinationRules, priorityKeys),
		gateways:   tallied(t.gateways, m.Gateways, was.Gateways, func(g *config.Gateway) []string { return keysOf(g.Spec.GetSelector()) }),
		sidecars: tallied(t.sidecars, m.Sidecars, was.Sidecars, func(s *config.SidecarScope) []string {
			return keysOf(s.Spec.GetWorkloadSelector().GetLabels())
		}),
		envoyFilters: tallied(t.envoyFilters, m.EnvoyFilters, was.EnvoyFilters, func(f *config.EnvoyFilter) []string { return envoyFilterKeys(f.Spec) }),
		telemetries:  tallied(t.telemetries, m.Telemetries, was.Telemetries, func(p *config.Telemetry) []string { return attachmentKeys(p.Spec) }),
		modules:      tallied(t.modules, m.WasmPlugins, was.WasmPlugins, func(p *config.WasmPlugin) []string { return attachmentKeys(p.Spec) }),
		extensions:   tallied(t.extensions, m.TrafficExtensions, was.TrafficExtensions, func(p *config.TrafficExtension) []string { return attachmentKeys(&extension{spec: p.Spec}) }),
		peers: tallied(t.peers, m.PeerAuthentications, was.PeerAuthentications, func(p *config.PeerAuthentication) []string {
			return keysOf(p.Spec.GetSelector().GetMatchLabels())
		}),
		tokens:   tallied(t.tokens, m.RequestAuthentications, was.RequestAuthentications, func(p *config.RequestAuthentication) []string { return attachmentKeys(p.Spec) }),
		policies: tallied(t.policies, m.AuthorizationPolicies, was.AuthorizationPolicies, func(p *config.AuthorizationPolicy) []string { return attachmentKeys(p.Spec) }),
		portNames: tallied(t.portNames, m.Services, was.Services, func(s *config.Service) []string {
			var names []string
			for _, p := range s.Ports {
				if p.TargetPortName != "" {
					names = append(names, p.TargetPortName)
				}
			}
			return names
		}),
	}
}

// outbound are the label keys that selectors of the outbound side test; those by
// which rules order endpoints count only where some cluster carries endpoints of
// several places.
func (t *testedKeys) outbound(near bool) []string {
	kinds := []tally{t.virtualServices, t.rules, t.gateways, t.sidecars, t.envoyFilters, t.telemetries, t.modules, t.extensions}
	if near {
		kinds = append(kinds, t.priorities)
	}
	return keysOfAll(kinds...)
}

func (t *testedKeys) inbound() []string {
	return keysOfAll(t.services, t.sidecars, t.envoyFilters, t.rules, t.telemetries, t.modules, t.extensions, t.peers, t.tokens, t.policies)
}

func keysOfAll(kinds ...tally) []string {
	var out []string
	for _, k := range kinds {
		out = slices.AppendSeq(out, maps.Keys(k))
	}
	return sortedSet(out)
}

func keysOf(selector map[string]string) []string {
	if len(selector) == 0 {
		return nil
	}
	return slices.Collect(maps.Keys(selector))
}

func sourceLabelKeys(vs *config.VirtualService) []string {
	var out []string
	for _, h := range vs.Spec.GetHttp() {
		for _, match := range h.GetMatch() {
			out = append(out, keysOf(match.GetSourceLabels())...)
		}
	}
	for _, t := range vs.Spec.GetTls() {
		for _, match := range t.GetMatch() {
			out = append(out, keysOf(match.GetSourceLabels())...)
		}
	}
	for _, t := range vs.Spec.GetTcp() {
		for _, match := range t.GetMatch() {
			out = append(out, keysOf(match.GetSourceLabels())...)
		}
	}
	return out
}

// priorityKeys are the labels by which a rule orders endpoints.
func priorityKeys(dr *config.DestinationRule) []string {
	var out []string
	for _, l := range priorityLabelsOf(dr) {
		key, _, _ := strings.Cut(l, "=")
		out = append(out, key)
	}
	return out
}

func envoyFilterKeys(spec *networking.EnvoyFilter) []string {
	keys := labelKeys{}
	addEnvoyFilterLabels(keys, spec)
	return keys.sorted()
}

// attachmentKeys are the labels by which a policy finds workloads.
func attachmentKeys(p attachable) []string {
	keys := labelKeys{}
	addAttachmentLabels(keys, p)
	return keys.sorted()
}
