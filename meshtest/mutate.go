package meshtest

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Mutant is a configuration with one small change that tests should notice.
type Mutant struct {
	Object config.Key `json:"object"`
	Field  string     `json:"field"`
	What   string     `json:"what"`
	File   string     `json:"file,omitempty"`
	Line   int        `json:"line,omitempty"`
	// Before and After are how Witness, a request as arguments of ask, is answered
	// without and with the change.
	Before  string `json:"before,omitempty"`
	After   string `json:"after,omitempty"`
	Witness string `json:"witness,omitempty"`

	mesh *config.Mesh
}

// Differs looks for a request that is answered differently in the changed
// configuration, which is the second of the two, and notes it. Without any the
// change is none that a test could notice.
func (m *Mutant) Differs(before, changed *simulate.World) bool {
	d := Diff(before, changed)
	if len(d.Requests) == 0 {
		return false
	}
	m.Before, m.After, m.Witness = d.Requests[0].Before, d.Requests[0].After, d.Requests[0].Witness
	return true
}

// Mesh is the changed configuration.
func (m *Mutant) Mesh() *config.Mesh { return m.mesh }

// Mutants changes a configuration a little in each of many ways: it drops
// rules, swaps weights, widens matches, moves destinations.
func Mutants(m *config.Mesh) []*Mutant {
	g := &mutation{mesh: m}
	for vs := range m.VirtualServices.All() {
		g.virtualService(vs)
	}
	for p := range m.AuthorizationPolicies.All() {
		g.policy(p)
	}
	return g.out
}

type mutation struct {
	mesh *config.Mesh
	out  []*Mutant
}

func (g *mutation) add(meta *config.Meta, field, what string, put func(b *config.Builder, changed config.Meta)) {
	changed := *meta
	changed.Hash = config.NewHasher().Str("mutant", field, what).Hash(meta.Hash).Sum()
	b := config.NewBuilder(g.mesh)
	put(b, changed)
	g.out = append(g.out, &Mutant{
		Object: meta.Key, Field: field, What: what, File: meta.File, Line: meta.LineOf(field), mesh: b.Mesh(),
	})
}

func (g *mutation) virtualService(vs *config.VirtualService) {
	change := func(field, what string, edit func(*networking.VirtualService)) {
		g.add(&vs.Meta, field, what, func(b *config.Builder, meta config.Meta) {
			spec, _ := proto.Clone(vs.Spec).(*networking.VirtualService)
			edit(spec)
			config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices },
				&config.VirtualService{Meta: meta, Spec: spec})
		})
	}
	for i, r := range vs.Spec.GetHttp() {
		field := fmt.Sprintf("spec.http[%d]", i)
		if len(vs.Spec.GetHttp()) > 1 {
			change(field, "the rule is gone", func(s *networking.VirtualService) { s.Http = append(s.Http[:i], s.Http[i+1:]...) })
		}
		if list := r.GetRoute(); len(list) > 1 && list[0].GetWeight() != list[1].GetWeight() {
			change(field+".route", "the first two weights are swapped", func(s *networking.VirtualService) {
				a, b := s.Http[i].Route[0], s.Http[i].Route[1]
				a.Weight, b.Weight = b.Weight, a.Weight
			})
		}
		for j, m := range r.GetMatch() {
			g.match(change, i, j, m)
		}
		g.effects(change, i, r)
	}
}

type changeFunc func(field, what string, edit func(*networking.VirtualService))

// match widens one condition after the other.
func (g *mutation) match(change changeFunc, i, j int, m *networking.HTTPMatchRequest) {
	field := fmt.Sprintf("spec.http[%d].match[%d]", i, j)
	on := func(s *networking.VirtualService) *networking.HTTPMatchRequest { return s.Http[i].Match[j] }
	if m.GetUri() != nil && m.GetUri().GetPrefix() != "/" { // which any path has
		change(field+".uri", "any path matches", func(s *networking.VirtualService) { on(s).Uri = nil })
	}
	if m.GetMethod() != nil {
		change(field+".method", "any method matches", func(s *networking.VirtualService) { on(s).Method = nil })
	}
	for _, name := range sortedKeys(m.GetHeaders()) {
		change(field+".headers."+name, "any value of the header matches", func(s *networking.VirtualService) { delete(on(s).Headers, name) })
	}
	for _, name := range sortedKeys(m.GetQueryParams()) {
		change(field+".queryParams."+name, "any value of the parameter matches", func(s *networking.VirtualService) { delete(on(s).QueryParams, name) })
	}
}

// effects takes what a rule does besides routing.
func (g *mutation) effects(change changeFunc, i int, r *networking.HTTPRoute) {
	field := fmt.Sprintf("spec.http[%d]", i)
	on := func(s *networking.VirtualService) *networking.HTTPRoute { return s.Http[i] }
	if r.GetTimeout() != nil {
		change(field+".timeout", "there is no timeout", func(s *networking.VirtualService) { on(s).Timeout = nil })
	}
	if r.GetRetries() != nil {
		change(field+".retries", "retries are the default's", func(s *networking.VirtualService) { on(s).Retries = nil })
	}
	if r.GetFault() != nil {
		change(field+".fault", "no fault is injected", func(s *networking.VirtualService) { on(s).Fault = nil })
	}
	if r.GetRewrite() != nil {
		change(field+".rewrite", "nothing is rewritten", func(s *networking.VirtualService) { on(s).Rewrite = nil })
	}
	if r.GetMirror() != nil {
		change(field+".mirror", "nothing is mirrored", func(s *networking.VirtualService) { on(s).Mirror = nil })
	}
	for k, d := range r.GetRoute() {
		if d.GetDestination().GetSubset() != "" {
			change(fmt.Sprintf("%s.route[%d].destination.subset", field, k), "every subset gets the requests", func(s *networking.VirtualService) {
				on(s).Route[k].Destination.Subset = ""
			})
		}
	}
}

func (g *mutation) policy(p *config.AuthorizationPolicy) {
	remove := func(b *config.Builder, _ config.Meta) {
		config.Remove(b, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies }, p.Namespace, p.Name)
	}
	g.add(&p.Meta, "spec", "the policy is gone", remove)
	change := func(field, what string, edit func(*security.AuthorizationPolicy)) {
		g.add(&p.Meta, field, what, func(b *config.Builder, meta config.Meta) {
			spec, _ := proto.Clone(p.Spec).(*security.AuthorizationPolicy)
			edit(spec)
			config.Put(b, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies },
				&config.AuthorizationPolicy{Meta: meta, Spec: spec})
		})
	}
	for i, r := range p.Spec.GetRules() {
		field := fmt.Sprintf("spec.rules[%d]", i)
		if len(p.Spec.GetRules()) > 1 {
			change(field, "the rule is gone", func(s *security.AuthorizationPolicy) { s.Rules = append(s.Rules[:i], s.Rules[i+1:]...) })
		}
		if len(r.GetFrom()) > 0 {
			change(field+".from", "any source matches", func(s *security.AuthorizationPolicy) { s.Rules[i].From = nil })
		}
		if len(r.GetTo()) > 0 {
			change(field+".to", "any operation matches", func(s *security.AuthorizationPolicy) { s.Rules[i].To = nil })
		}
		if len(r.GetWhen()) > 0 {
			change(field+".when", "any condition matches", func(s *security.AuthorizationPolicy) { s.Rules[i].When = nil })
		}
	}
}
