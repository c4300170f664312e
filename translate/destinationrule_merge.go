package translate

import (
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// merge adds a rule to those of its host. Rules come in order of precedence;
// the subsets of all that reach the same clients are put together, and the
// first traffic policy counts. Rules that select workloads are merged with
// those of the same selector, and those without one fill them up.
func merge(rules *hostRules, host string, r *mergedRule) {
	separate := true
	for i, earlier := range rules.byHost[host] {
		if !mergeable(earlier, r) {
			continue
		}
		if earlier.selects == r.selects && slices.Equal(earlier.exportTo, r.exportTo) {
			separate = false
		}
		rules.byHost[host][i] = earlier.with(r)
	}
	if separate {
		rules.byHost[host] = append(rules.byHost[host], r)
	}
}

// mergeable reports whether every client of earlier may also see r.
func mergeable(earlier, r *mergedRule) bool {
	if !slices.Equal(earlier.exportTo, r.exportTo) && (len(earlier.exportTo) == 0 || !covers(r.exportTo, earlier.exportTo)) {
		return false
	}
	if earlier.selects && r.selects {
		return maps.Equal(earlier.selector, r.selector)
	}
	return !r.selects
}

func covers(all, some []string) bool {
	for _, e := range some {
		if !slices.Contains(all, e) {
			return false
		}
	}
	return true
}

// with returns a new rule: next's subsets that r lacks are added, and next's
// traffic policy counts if r has none.
func (r *mergedRule) with(next *mergedRule) *mergedRule {
	out := *r
	spec := &networking.DestinationRule{
		Host:             r.rule.Spec.GetHost(),
		TrafficPolicy:    r.rule.Spec.GetTrafficPolicy(),
		Subsets:          slices.Clone(r.rule.Spec.GetSubsets()),
		ExportTo:         r.rule.Spec.GetExportTo(),
		WorkloadSelector: r.rule.Spec.GetWorkloadSelector(),
	}
	for _, s := range next.rule.Spec.GetSubsets() {
		if subsetNamed(spec, s.GetName()) == nil {
			spec.Subsets = append(spec.Subsets, s)
		}
	}
	if spec.TrafficPolicy == nil {
		spec.TrafficPolicy = next.rule.Spec.GetTrafficPolicy()
	}
	out.rule = Rule{
		Spec:    spec,
		Sources: append(slices.Clone(r.rule.Sources), next.rule.Sources...),
		Hash:    config.NewHasher().Hash(r.rule.Hash, next.rule.Hash).Sum(),
	}
	return &out
}

func subsetNamed(spec *networking.DestinationRule, name string) *networking.Subset {
	for _, s := range spec.GetSubsets() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}
