package simulate

import (
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// subsetRule is the DestinationRule behind a cluster, of several for its host
// the one that has the subset.
type subsetRule struct {
	rule   *config.DestinationRule
	subset int // -1 for none
	port   uint32
}

// destinationRule finds the rule of a cluster by what made it.
func (w *World) destinationRule(h *Hop, d *Destination) *subsetRule {
	if d.Source == nil || d.Source.Object.Kind != "DestinationRule" || h.pod == nil {
		return nil
	}
	_, port, subset, _, ok := translate.ParseCluster(d.Cluster)
	if !ok {
		return nil
	}
	out := &subsetRule{subset: -1, port: port}
	keys := []config.Key{d.Source.Object}
	for _, p := range h.pod.config.parts {
		if r := p.resources.Clusters.Get(d.Cluster); r != nil {
			for _, m := range r.Sources {
				keys = append(keys, m.Key)
			}
		}
	}
	for _, k := range keys {
		rule, ok := w.Mesh.DestinationRules.Get(k.Namespace, k.Name)
		if !ok || k.Kind != "DestinationRule" {
			continue
		}
		if out.rule == nil {
			out.rule = rule
		}
		for i, s := range rule.Spec.GetSubsets() {
			if s.GetName() == subset && out.subset < 0 {
				out.rule, out.subset = rule, i
			}
		}
	}
	if out.rule == nil {
		return nil
	}
	return out
}

func (r *subsetRule) subsetField() string { return "spec.subsets[" + strconv.Itoa(r.subset) + "]" }

func (r *subsetRule) subsetSource() *Source {
	if r.subset < 0 {
		return sourceAt(&r.rule.Meta, "")
	}
	return sourceAt(&r.rule.Meta, r.subsetField())
}

// policy is where the rule sets a field of the traffic policy, the most
// specific place that does; nil if none does.
func (r *subsetRule) policy(field protoreflect.Name) *Source {
	if r.subset >= 0 {
		if at := r.within(r.rule.Spec.GetSubsets()[r.subset].GetTrafficPolicy(), r.subsetField()+".trafficPolicy", field); at != nil {
			return at
		}
	}
	return r.within(r.rule.Spec.GetTrafficPolicy(), "spec.trafficPolicy", field)
}

func (r *subsetRule) within(p *networking.TrafficPolicy, at string, field protoreflect.Name) *Source {
	for i, port := range p.GetPortLevelSettings() {
		if port.GetPort().GetNumber() == r.port && has(port.ProtoReflect(), field) {
			return sourceAt(&r.rule.Meta, at+".portLevelSettings["+strconv.Itoa(i)+"]."+string(field))
		}
	}
	if p != nil && has(p.ProtoReflect(), field) {
		return sourceAt(&r.rule.Meta, at+"."+string(field))
	}
	return nil
}

// has reports whether a message sets the field of a JSON name.
func has(m protoreflect.Message, field protoreflect.Name) bool {
	fd := m.Descriptor().Fields().ByJSONName(string(field))
	return fd != nil && m.Has(fd)
}
