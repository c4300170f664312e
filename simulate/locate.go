package simulate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// locate fills in the objects, with file and line, behind decisions that
// Envoy's resources do not name them for, or less closely.
func (w *World) locate(h *Hop, seen map[*Hop]bool) {
	if h == nil || seen[h] {
		return
	}
	seen[h] = true
	w.locateWay(h)
	for i := range h.Filters {
		w.locateVerdict(h, &h.Filters[i])
	}
	w.locateRoute(h)
	if h.Reply != nil {
		h.Reply.Source = w.placed(h.Reply.Source, "")
		for i := range h.Filters { // the verdict that ended it
			if v := &h.Filters[i]; !v.Allowed && !v.Dry {
				h.Reply.Source = v.Source
			}
		}
	}
	for i := range h.To {
		w.locateDestination(h, &h.To[i])
		for j := range h.To[i].Endpoints {
			w.locate(h.To[i].Endpoints[j].Server, seen)
		}
	}
}

// sourceAt is a field of an object.
func sourceAt(m *config.Meta, field string) *Source {
	if m == nil || m.Name == "" {
		return nil
	}
	return &Source{Object: m.Key, File: m.File, Line: m.LineOf(field)}
}

// locateWay is what made listener and chain: a Gateway's server, or the Service
// whose address was called; what the redirection of all connections needs, the
// workload.
func (w *World) locateWay(h *Hop) {
	if h.pod == nil {
		return
	}
	own := w.listening(h)
	if h.Listener != nil && h.Listener.Source == nil {
		h.Listener.Source = own
	}
	if h.Chain != nil && h.Chain.Name != "" && h.Chain.Source == nil {
		h.Chain.Source = own
	}
	if d := h.Downstream; d != nil && d.Source == nil {
		d.Source = h.Peers
		if d.Source == nil && h.Side != "inbound" && h.Chain != nil {
			d.Source = h.Chain.Source
		}
	}
	for _, p := range h.pod.config.parts {
		if p.scope != nil && p.scope.Sidecar != nil && h.Side == "outbound" && p.scope.Class.Side == translate.Outbound {
			h.Sidecar = sourceAt(&p.scope.Sidecar.Meta, "spec.egress")
		}
		h.patchedBy(p)
	}
	if h.VirtualHost != nil && h.VirtualHost.Source == nil {
		h.VirtualHost.Source, h.rest = w.restOf(h), h.Side != "inbound"
	}
	if h.Route != nil && h.Route.Name != "" && h.Route.Source == nil && h.VirtualHost != nil {
		h.Route.Source, h.Route.implied = h.VirtualHost.Source, true
	}
}

// listening is what a proxy has the listener for that took the connection.
func (w *World) listening(h *Hop) *Source {
	for _, p := range h.pod.ports {
		for _, s := range p.Servers {
			if p.Port == uint32(h.to.Port()) {
				return sourceAt(&s.Gateway.Meta, "spec.servers["+strconv.Itoa(s.Index)+"]")
			}
		}
	}
	if s := w.servicesAt()[h.to.Addr().String()]; s != nil && h.Side == "outbound" {
		return sourceAt(&s.Meta, "spec.ports")
	}
	if h.Side == "inbound" && len(h.To) > 0 && h.To[0].Source != nil {
		return h.To[0].Source
	}
	return w.podSource(h.pod)
}

// restOf is what decides about hosts that no service has.
func (w *World) restOf(h *Hop) *Source {
	if h.Side == "inbound" && len(h.To) > 0 {
		return h.To[0].Source
	}
	if h.Side != "outbound" {
		return h.Chain.Source
	}
	for _, p := range h.pod.config.parts {
		if p.scope != nil && p.scope.Sidecar != nil && p.scope.Sidecar.Spec.GetOutboundTrafficPolicy() != nil {
			return sourceAt(&p.scope.Sidecar.Meta, "spec.outboundTrafficPolicy")
		}
	}
	return w.settings()
}

// settings is the mesh's configuration; nil where there is none, but defaults.
func (w *World) settings() *Source { return sourceAt(&w.Mesh.Settings.Meta, "data.mesh") }

// servicesAt are the services by their virtual addresses.
func (w *World) servicesAt() map[string]*config.Service {
	w.addresses.Do(func() {
		w.services = map[string]*config.Service{}
		for s := range w.Mesh.Services.All() {
			for _, list := range [][]string{s.Addresses, s.AutoAddresses} {
				for _, a := range list {
					w.services[a] = s
				}
			}
		}
	})
	return w.services
}

// podSource is the workload that a pod is of, or the pod.
func (w *World) podSource(p *Pod) *Source {
	s := sourceAt(&p.Meta, "")
	if s != nil && p.Owner.Name != "" {
		s.Object = p.Owner
		s.Object.Namespace = p.Namespace
	}
	return s
}

// patchedBy adds the EnvoyFilters among what made the resources on the way.
func (h *Hop) patchedBy(p *Part) {
	if p.scope == nil || len(p.resources.Applied) == 0 {
		return
	}
	add := func(r *translate.Resource) {
		if r == nil {
			return
		}
		for _, m := range r.Sources {
			if s := sourceAt(m, ""); m.Kind == "EnvoyFilter" && !containsSource(h.Patched, s) {
				h.Patched = append(h.Patched, s)
			}
		}
	}
	if h.Listener != nil {
		add(p.resources.Listeners.Get(h.Listener.Name))
	}
	add(p.resources.Routes.Get(h.RouteTable))
	for i := range h.To {
		add(p.resources.Clusters.Get(h.To[i].Cluster))
	}
}

func containsSource(list []*Source, s *Source) bool {
	return slices.ContainsFunc(list, func(have *Source) bool { return have.Object == s.Object })
}

// extensionName is the form of the names of filters that extensions made.
var extensionName = regexp.MustCompile(`^extensions\.istio\.io/(wasmplugin|trafficextension)/(?:network/)?([^.]+)\.(.+)$`)

func (w *World) locateVerdict(h *Hop, v *Verdict) {
	if v.provider != "" {
		v.Source = h.tokenSource(v.provider, v.Why)
	}
	for i := range v.Passed {
		p := &v.Passed[i]
		if p.provider != "" {
			p.Source = h.tokenSource(p.provider, p.Why)
		}
		p.Source = w.placed(p.Source, p.Name)
	}
	if v.Source == nil {
		v.Source = w.filterSource(h, v.Filter)
	}
	v.Source = w.placed(v.Source, v.Rule)
}

// tokenSource is the rule of a RequestAuthentication that a provider was made of.
func (h *Hop) tokenSource(provider, why string) *Source {
	if h.pod == nil {
		return nil
	}
	for _, p := range h.pod.config.parts {
		if p.scope == nil {
			continue
		}
		t := p.scope.TokenRule(provider)
		if t == nil {
			continue
		}
		for i, r := range t.Source.Spec.GetJwtRules() {
			if r != t.Spec {
				continue
			}
			field := "spec.jwtRules[" + strconv.Itoa(i) + "]"
			if strings.HasPrefix(why, "audience ") {
				field += ".audiences"
			}
			return sourceAt(&t.Source.Meta, field)
		}
	}
	return nil
}

// filterSource is what put a filter in that is not one of the control plane's
// own: an extension, or a patch.
func (w *World) filterSource(h *Hop, filter string) *Source {
	if m := extensionName.FindStringSubmatch(filter); m != nil {
		if x, ok := w.Mesh.WasmPlugins.Get(m[2], m[3]); ok && m[1] == "wasmplugin" {
			return sourceAt(&x.Meta, "")
		}
		if x, ok := w.Mesh.TrafficExtensions.Get(m[2], m[3]); ok {
			return sourceAt(&x.Meta, "")
		}
	}
	for _, s := range h.Patched {
		f, ok := w.Mesh.EnvoyFilters.Get(s.Object.Namespace, s.Object.Name)
		if !ok {
			continue
		}
		for i, p := range f.Spec.GetConfigPatches() {
			if p.GetPatch().GetValue().GetFields()["name"].GetStringValue() == filter {
				return sourceAt(&f.Meta, "spec.configPatches["+strconv.Itoa(i)+"]")
			}
		}
	}
	return nil
}

// placed adds file and line to the source of a policy, that of a rule whose
// name says which it is.
func (w *World) placed(s *Source, rule string) *Source {
	if s == nil || s.File != "" || s.Object.Kind != "AuthorizationPolicy" {
		return s
	}
	o, ok := w.Mesh.AuthorizationPolicies.Get(s.Object.Namespace, s.Object.Name)
	if !ok {
		return s
	}
	if m := policyName.FindStringSubmatch(rule); m != nil {
		return sourceAt(&o.Meta, "spec.rules["+m[3]+"]")
	}
	return sourceAt(&o.Meta, "")
}

// locateRoute is which fields of a route's rule decided what it does.
func (w *World) locateRoute(h *Hop) {
	if h.Route == nil || h.Route.Source == nil {
		return
	}
	r := w.ruleOf(h.Route.Source)
	if h.Fault != nil {
		h.Fault.Source = r.at("fault")
	}
	if h.Timeout.Set && !h.Timeout.Default && r.rule.GetTimeout() != nil {
		h.TimeoutSource = r.at("timeout")
	}
	if h.Retries != nil {
		if r.rule.GetRetries() != nil {
			h.Retries.Source = r.at("retries")
		} else {
			h.Retries.Source = w.settings()
		}
	}
	for i := range h.Mirrors {
		field := "mirror"
		if len(r.rule.GetMirrors()) > 0 {
			field = "mirrors[" + strconv.Itoa(i) + "]"
		}
		h.Mirrors[i].Source = r.at(field)
	}
	if h.Sent != nil && r.rule != nil {
		h.Sent.located(r.at("rewrite"), r.at("headers"))
	}
	for i := range h.To {
		d := &h.To[i]
		if d.Sent != nil {
			d.Sent.located(r.at("rewrite"), r.at("route"))
		}
		if d.Source == nil { // a cluster that does not exist
			d.Source = r.at("route")
		}
	}
}

// ruled is a rule of a VirtualService with its place.
type ruled struct {
	whole *Source
	meta  *config.Meta // nil for what is no VirtualService's
	field string
	rule  *networking.HTTPRoute
}

// at is a field of the rule, or of what stands for it.
func (r *ruled) at(field string) *Source {
	if r.meta == nil || r.meta.File == "" {
		return r.whole
	}
	return sourceAt(r.meta, r.field+"."+field)
}

// located notes what changes the request on its way.
func (s *Sent) located(rewrite, headers *Source) {
	if s.Rewritten {
		s.Source = rewrite
	}
	for _, list := range [][]HeaderChange{s.Changes, s.Response} {
		for i := range list {
			list[i].Source = headers
		}
	}
}

// ruleOf is the rule that a source is about.
func (w *World) ruleOf(s *Source) *ruled {
	out := &ruled{whole: s}
	vs, ok := w.Mesh.VirtualServices.Get(s.Object.Namespace, s.Object.Name)
	if !ok || s.Object.Kind != "VirtualService" {
		return out
	}
	for i, rule := range vs.Spec.GetHttp() {
		field := "spec.http[" + strconv.Itoa(i) + "]"
		if vs.LineOf(field) == s.Line {
			out.meta, out.field, out.rule = &vs.Meta, field, rule
			break
		}
	}
	return out
}

// locateDestination is what made a cluster what it is: a subset, its policy,
// and the pods behind it.
func (w *World) locateDestination(h *Hop, d *Destination) {
	rule := w.destinationRule(h, d)
	if rule != nil {
		d.Source = rule.subsetSource()
		d.BalanceSource = rule.policy("loadBalancer")
	}
	if s := w.servicesAt()[h.to.Addr().String()]; s != nil && d.Source == nil {
		d.Source = sourceAt(&s.Meta, "spec.ports")
	}
	for i := range d.Endpoints {
		ep := &d.Endpoints[i]
		if ep.Security != nil && h.Side != "inbound" && rule != nil {
			ep.Security.Source = rule.policy("tls")
		}
		at, ok := splitAddress(ep.Address)
		if p := w.byAddress[at.Addr()]; ok && p != nil {
			ep.Source = w.podSource(p)
		} else {
			ep.Source = d.Source
		}
		if ep.Security != nil && ep.Security.Source == nil && ep.Security.Mode != Plaintext && !ep.Security.Passthrough {
			ep.Security.Source = ep.Source // it takes mesh TLS, so it is sent that
		}
	}
}
