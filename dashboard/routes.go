package dashboard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
)

// routeView is one HTTP rule that splits requests among several destinations.
type routeView struct {
	ID           string            `json:"id"`
	Namespace    string            `json:"namespace"`
	Name         string            `json:"name"` // of the VirtualService
	Field        string            `json:"field"`
	Rule         string            `json:"rule,omitempty"`  // the rule's own name
	Match        []string          `json:"match,omitempty"` // any of these; none matches all
	Hosts        []string          `json:"hosts"`
	Gateways     []string          `json:"gateways,omitempty"`
	File         string            `json:"file,omitempty"`
	Line         int               `json:"line,omitempty"`
	ReadOnly     string            `json:"readOnly,omitempty"` // why weights cannot be moved
	Destinations []destinationView `json:"destinations"`
	History      []weightsAt       `json:"history"` // oldest first, the last one in effect
}

// destinationView is one weighted destination.
type destinationView struct {
	Host    string `json:"host"`
	Subset  string `json:"subset,omitempty"`
	Label   string `json:"label"`   // what tells it from the route's others
	Weight  int32  `json:"weight"`  // as configured
	Percent int32  `json:"percent"` // of the route's sum
	// Series are the workloads behind it, as traffic names them.
	Series []string `json:"series"`
}

// weightsAt is what was configured from a time on, in percent.
type weightsAt struct {
	At       float64 `json:"at"` // Unix seconds
	Percents []int32 `json:"percents"`
}

// series are the labels of each workload that has answered, by its name in
// traffic: namespace/workload. One that is gone keeps its last labels, so that
// its past stays in the plot.
type series map[string]map[string]string

// learn takes the labels from the mesh's workloads.
func (s series) learn(m *config.Mesh) {
	if len(s) == 0 {
		return
	}
	for w := range m.Workloads.All() {
		for _, name := range []string{w.Owner.Name, w.Name} {
			if _, ok := s[w.Namespace+"/"+name]; ok && name != "" {
				s[w.Namespace+"/"+name] = w.Labels
			}
		}
	}
}

// routesOf finds the rules that split requests; it is not nil. Histories are
// empty.
func routesOf(m *config.Mesh, known series, writable bool) []routeView {
	out := []routeView{}
	d := newDirectory(m)
	for vs := range m.VirtualServices.All() {
		for i, rule := range vs.Spec.GetHttp() {
			if len(rule.GetRoute()) < 2 {
				continue
			}
			r := routeView{
				Namespace: vs.Namespace, Name: vs.Name,
				Field: fmt.Sprintf("spec.http[%d].route", i),
				Rule:  rule.GetName(),
				Hosts: vs.Spec.GetHosts(), Gateways: vs.Spec.GetGateways(),
				File: vs.File, Line: vs.LineOf(fmt.Sprintf("spec.http[%d].route", i)),
				Destinations: d.destinationsOf(vs, rule, known),
			}
			r.ID = r.Namespace + "/" + r.Name + "/" + r.Field
			for _, match := range rule.GetMatch() {
				r.Match = append(r.Match, describeMatch(match))
			}
			switch {
			case !writable:
				r.ReadOnly = "This page is read-only."
			case vs.File == "":
				r.ReadOnly = "The weights come from an API server and are changed there."
			}
			out = append(out, r)
		}
	}
	return out
}

func (dir directory) destinationsOf(vs *config.VirtualService, rule *networking.HTTPRoute, known series) []destinationView {
	var out []destinationView
	var weights []int32
	hosts, subsets := map[string]bool{}, map[string]bool{}
	for _, d := range rule.GetRoute() {
		weights = append(weights, d.GetWeight())
		hosts[d.GetDestination().GetHost()] = true
		subsets[d.GetDestination().GetSubset()] = true
	}
	for i, percent := range shares(weights) {
		d := rule.GetRoute()[i].GetDestination()
		v := destinationView{
			Host: d.GetHost(), Subset: d.GetSubset(),
			Weight: weights[i], Percent: percent,
			Series: dir.workloadsBehind(vs.Namespace, d, known),
		}
		switch {
		case v.Subset == "":
			v.Label = v.Host
		case len(hosts) == 1 || len(subsets) == len(weights):
			v.Label = v.Subset
		default:
			v.Label = v.Host + " " + v.Subset
		}
		out = append(out, v)
	}
	return out
}

// directory finds services and subsets by their full host names.
type directory struct {
	domain   string
	services map[string][]*config.Service
	rules    map[string][]*config.DestinationRule
}

func newDirectory(m *config.Mesh) directory {
	d := directory{m.Settings.DomainSuffix, map[string][]*config.Service{}, map[string][]*config.DestinationRule{}}
	for s := range m.Services.All() {
		d.services[s.Hostname] = append(d.services[s.Hostname], s)
	}
	for r := range m.DestinationRules.All() {
		host := d.fullName(r.Spec.GetHost(), r.Namespace)
		d.rules[host] = append(d.rules[host], r)
	}
	return d
}

// fullName resolves a host as the VirtualService's documentation says: a short
// name is in the namespace of the object that names it.
func (dir directory) fullName(host, ns string) string {
	host = strings.ToLower(host)
	if strings.Contains(host, ".") {
		return host
	}
	return host + "." + ns + ".svc." + dir.domain
}

// workloadsBehind are the known workloads that a destination can reach: those
// that the service's selector and the subset's labels pick.
func (dir directory) workloadsBehind(ns string, d *networking.Destination, known series) []string {
	host := dir.fullName(d.GetHost(), ns)
	found := []string{}
	subset, ok := dir.subsetLabels(host, d.GetSubset())
	if !ok {
		return found
	}
	for _, service := range dir.services[host] {
		for _, name := range slices.Sorted(maps.Keys(known)) {
			if len(service.Selector) > 0 && strings.HasPrefix(name, service.Namespace+"/") &&
				config.Selects(service.Selector, known[name]) && config.Selects(subset, known[name]) &&
				!slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return found
}

func (dir directory) subsetLabels(host, subset string) (map[string]string, bool) {
	if subset == "" {
		return nil, true
	}
	for _, rule := range dir.rules[host] {
		for _, s := range rule.Spec.GetSubsets() {
			if s.GetName() == subset {
				return s.GetLabels(), true
			}
		}
	}
	return nil, false
}

// describeMatch is a short form for people; what is not in it is counted.
func describeMatch(m *networking.HTTPMatchRequest) string {
	var parts []string
	add := func(what string, s *networking.StringMatch) {
		switch t := s.GetMatchType().(type) {
		case *networking.StringMatch_Exact:
			parts = append(parts, what+" = "+t.Exact)
		case *networking.StringMatch_Prefix:
			parts = append(parts, what+" "+t.Prefix+"…")
		case *networking.StringMatch_Regex:
			parts = append(parts, what+" ~ "+t.Regex)
		}
	}
	add("path", m.GetUri())
	add("method", m.GetMethod())
	add("authority", m.GetAuthority())
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		add(name, m.GetHeaders()[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetQueryParams())) {
		add("?"+name, m.GetQueryParams()[name])
	}
	if len(parts) == 0 {
		return "other conditions"
	}
	return strings.Join(parts, ", ")
}

// editOf is the edit that gives a route new weights.
func editOf(m *config.Mesh, r routeView, weights []int32) weightfile.Edit {
	e := weightfile.Edit{
		File: r.File, Field: r.Field, Weights: weights,
		Object: config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: r.Namespace, Name: r.Name},
	}
	if vs, ok := m.VirtualServices.Get(r.Namespace, r.Name); ok {
		e.Line = vs.Line
	}
	for _, d := range r.Destinations {
		e.Seen = append(e.Seen, weightfile.Destination{Host: d.Host, Subset: d.Subset, Weight: d.Weight})
	}
	return e
}
