package translate

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// destinationRuleProblems are what DestinationRules say about things that do
// not exist, and where they get in each other's way.
func (ix *Index) destinationRuleProblems() []config.Problem {
	f := ruleFinder{m: ix.mesh, byHost: map[string][]*config.Service{}, secrets: map[string]bool{}}
	for s := range ix.mesh.Services.All() {
		f.byHost[s.Hostname] = append(f.byHost[s.Hostname], s)
	}
	for s := range ix.mesh.Secrets.All() {
		f.secrets[s.Name] = true
	}
	f.routed = routedSubsets(ix.mesh)
	for _, dr := range rulesInOrder(slices.Collect(ix.mesh.DestinationRules.All())) {
		f.rule(dr)
	}
	return f.problems
}

// subsetOf names one subset of one host.
type subsetOf struct{ host, subset string }

// routedSubsets are those that rules of VirtualServices lead to.
func routedSubsets(m *config.Mesh) map[subsetOf]bool {
	out := map[subsetOf]bool{}
	for vs := range m.VirtualServices.All() {
		add := func(d *networking.Destination) {
			if d.GetSubset() != "" {
				out[subsetOf{fullHost(d.GetHost(), vs.Namespace, m.Settings.DomainSuffix), d.GetSubset()}] = true
			}
		}
		for _, r := range vs.Spec.GetHttp() {
			for _, to := range r.GetRoute() {
				add(to.GetDestination())
			}
			add(r.GetMirror())
			for _, to := range r.GetMirrors() {
				add(to.GetDestination())
			}
		}
		for _, r := range vs.Spec.GetTls() {
			for _, to := range r.GetRoute() {
				add(to.GetDestination())
			}
		}
		for _, r := range vs.Spec.GetTcp() {
			for _, to := range r.GetRoute() {
				add(to.GetDestination())
			}
		}
	}
	return out
}

type ruleFinder struct {
	m        *config.Mesh
	byHost   map[string][]*config.Service
	secrets  map[string]bool // by name, of any namespace
	routed   map[subsetOf]bool
	earlier  map[ruleTarget][]*config.DestinationRule
	problems []config.Problem
}

// ruleTarget is what two rules must share to be put together.
type ruleTarget struct{ namespace, host string }

func (f *ruleFinder) add(dr *config.DestinationRule, s config.Severity, field, code, format string, args ...any) {
	f.problems = append(f.problems, config.At(&dr.Meta, field, s, code, format, args...))
}

func (f *ruleFinder) rule(dr *config.DestinationRule) {
	host := ruleHost(dr, f.m.Settings.DomainSuffix)
	f.conflicts(dr, host)
	policies := map[string]*networking.TrafficPolicy{"spec.trafficPolicy": dr.Spec.GetTrafficPolicy()}
	for i, s := range dr.Spec.GetSubsets() {
		policies["spec."+indexed("subsets", i)+".trafficPolicy"] = s.GetTrafficPolicy()
	}
	for _, field := range slices.Sorted(maps.Keys(policies)) {
		f.credentials(dr, field, policies[field])
	}
	if strings.HasPrefix(host, "*") {
		if !f.covers(host) {
			f.add(dr, config.Warning, "spec.host", "HostNotFound", "%s covers no service, so the rule has no effect", shown(host))
		}
		return
	}
	services := f.byHost[host]
	if len(services) == 0 {
		f.add(dr, config.Warning, "spec.host", "HostNotFound", "no service has host %s, so the rule has no effect%s", shown(host), f.hint(dr, host))
		return
	}
	f.subsets(dr, services)
	for _, field := range slices.Sorted(maps.Keys(policies)) {
		f.ports(dr, field, policies[field], services)
	}
}

func (f *ruleFinder) covers(wildcard string) bool {
	for h := range f.byHost {
		if strings.HasSuffix(h, wildcard[1:]) {
			return true
		}
	}
	return false
}

// hint guesses what was meant by a host that no service has.
func (f *ruleFinder) hint(dr *config.DestinationRule, host string) string {
	for _, h := range []string{
		host + ".svc." + f.m.Settings.DomainSuffix,
		host + "." + f.m.Settings.DomainSuffix,
	} {
		if len(f.byHost[h]) > 0 {
			return "; did you mean " + h + "? Short names have no dot"
		}
	}
	name, _, _ := strings.Cut(host, ".")
	for _, ns := range f.m.Services.Namespaces() {
		h := name + "." + ns + ".svc." + f.m.Settings.DomainSuffix
		if ns != dr.Namespace && len(f.byHost[h]) > 0 {
			return "; did you mean " + h + "?"
		}
	}
	return ""
}

// conflicts reports what is lost where rules of one host are put together.
func (f *ruleFinder) conflicts(dr *config.DestinationRule, host string) {
	if f.earlier == nil {
		f.earlier = map[ruleTarget][]*config.DestinationRule{}
	}
	at := ruleTarget{dr.Namespace, host}
	ignored := false
	for _, first := range f.earlier[at] {
		if !sameClients(first, dr) {
			continue
		}
		if !ignored && dr.Spec.GetTrafficPolicy() != nil && first.Spec.GetTrafficPolicy() != nil {
			ignored = true
			f.add(dr, config.Warning, "spec.trafficPolicy", "PolicyIgnored",
				"has no effect: %s has the same host and a trafficPolicy, and goes first; merge the two", first.Key)
		}
		for i, s := range dr.Spec.GetSubsets() {
			if subsetNamed(first.Spec, s.GetName()) != nil {
				f.add(dr, config.Warning, "spec."+indexed("subsets", i), "SubsetTaken",
					"subset %s has no effect: %s has one of that name for the same host; name it otherwise", shown(s.GetName()), first.Key)
			}
		}
	}
	f.earlier[at] = append(f.earlier[at], dr)
}

func sameClients(a, b *config.DestinationRule) bool {
	x, y := newMergedRule(a, false), newMergedRule(b, false)
	return x.selects == y.selects && maps.Equal(x.selector, y.selector) && slices.Equal(x.exportTo, y.exportTo)
}

// subsets reports those that no endpoint is in. A service without endpoints
// says nothing about its subsets.
func (f *ruleFinder) subsets(dr *config.DestinationRule, services []*config.Service) {
	var labels []map[string]string
	for _, s := range services {
		eps, _ := f.m.Endpoints.Get(s.Namespace, s.Hostname)
		if eps == nil {
			continue
		}
		for _, list := range eps.ByPort {
			for i := range list {
				labels = append(labels, list[i].Labels)
			}
		}
	}
	if len(labels) == 0 {
		return
	}
	for i, s := range dr.Spec.GetSubsets() {
		if !slices.ContainsFunc(labels, func(l map[string]string) bool { return config.Selects(s.GetLabels(), l) }) {
			severity, effect := config.Warning, "requests to subset "+shown(s.GetName())+" fail with 503"
			if !f.routed[subsetOf{services[0].Hostname, s.GetName()}] {
				severity, effect = config.Info, "no route leads to subset "+shown(s.GetName())+" yet; its requests would fail with 503"
			}
			f.add(dr, severity, "spec."+indexed("subsets", i)+".labels", "SubsetEmpty", "no endpoint of %s has %s: %s",
				services[0].Hostname, canonicalLabels(s.GetLabels(), sortedKeys(s.GetLabels())), effect)
		}
	}
}

// ports reports settings of ports that no service of the host has.
func (f *ruleFinder) ports(dr *config.DestinationRule, field string, p *networking.TrafficPolicy, services []*config.Service) {
	for i, s := range p.GetPortLevelSettings() {
		n := s.GetPort().GetNumber()
		if !slices.ContainsFunc(services, func(s *config.Service) bool { _, ok := s.Port(n); return ok }) {
			f.add(dr, config.Warning, field+"."+indexed("portLevelSettings", i)+".port", "PortNotFound",
				"%s has no port %d, so the settings have no effect", services[0].Hostname, n)
		}
	}
}

func (f *ruleFinder) credentials(dr *config.DestinationRule, field string, p *networking.TrafficPolicy) {
	f.credential(dr, field+".tls.credentialName", p.GetTls())
	for i, s := range p.GetPortLevelSettings() {
		f.credential(dr, field+"."+indexed("portLevelSettings", i)+".tls.credentialName", s.GetTls())
	}
}

// credential reports a name that no Secret or ConfigMap has. Which namespace
// counts is up to the proxy; a rule that selects workloads names its own.
func (f *ruleFinder) credential(dr *config.DestinationRule, field string, t *networking.ClientTLSSettings) {
	if t.GetCredentialName() == "" {
		return
	}
	ref, ok := parseSecretName(credentialSecret(t.GetCredentialName()), dr.Namespace)
	switch {
	case !ok:
	case ref.configMap:
		if _, found := f.m.ConfigMaps.Get(ref.namespace, ref.name); !found {
			f.add(dr, config.Warning, field, "SecretNotFound", "there is no ConfigMap %s/%s", ref.namespace, ref.name)
		}
	case dr.Spec.GetWorkloadSelector() != nil:
		if !f.hasSecret(ref) {
			f.add(dr, config.Warning, field, "SecretNotFound", "there is no Secret %s/%s", ref.namespace, ref.name)
		}
	default:
		f.add(dr, config.Info, field, "GatewaysOnly",
			"counts for gateways only; sidecars do not originate TLS by this rule unless it has a workloadSelector")
		if !f.secrets[ref.name] && !f.secrets[ref.name+authoritySuffix] {
			f.add(dr, config.Warning, field, "SecretNotFound", "no namespace has a Secret %s", ref.name)
		}
	}
}

func (f *ruleFinder) hasSecret(ref secretRef) bool {
	for _, n := range []string{ref.name, ref.name + authoritySuffix} {
		if _, ok := f.m.Secrets.Get(ref.namespace, n); ok {
			return true
		}
	}
	return false
}
