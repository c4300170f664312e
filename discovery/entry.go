package discovery

import (
	"maps"
	"slices"
	"strings"

	"istio.io/api/label"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// entriesIndex holds the ServiceEntries.
type entriesIndex struct {
	raw map[name]*Object
	// selecting are those with a workloadSelector, by namespace.
	selecting multimap[string, name]
}

func newEntriesIndex() entriesIndex {
	return entriesIndex{raw: map[name]*Object{}, selecting: multimap[string, name]{}}
}

// entry is a ServiceEntry with its meta data.
type entry struct {
	*Object
	spec *networking.ServiceEntry
}

func (x *entriesIndex) get(n name) (entry, bool) {
	o := x.raw[n]
	if o == nil {
		return entry{}, false
	}
	spec, ok := o.Body.(*networking.ServiceEntry)
	return entry{o, spec}, ok
}

// claiming are the ServiceEntries of a claim, the one that wins first: the
// oldest, then by name.
func (x *entriesIndex) claiming(c *claim) []entry {
	var out []entry
	for n := range c.entries {
		if e, ok := x.get(n); ok {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int {
		if a.Meta.Before(&b.Meta) {
			return -1
		}
		return 1
	})
	return out
}

func (d *derivation) entryChange(n name, before, after *Object) {
	if e, ok := d.entries.get(n); ok && before != nil {
		for _, id := range hostsOf(e) {
			delete(d.claim(id).entries, n)
			d.stale.services.add(id)
		}
		d.entries.selecting.remove(n.ns, n)
		delete(d.entries.raw, n)
	}
	if after == nil {
		return
	}
	d.entries.raw[n] = after
	e, ok := d.entries.get(n)
	if !ok {
		return
	}
	if e.spec.GetWorkloadSelector() != nil {
		d.entries.selecting.add(n.ns, n)
	}
	for _, id := range hostsOf(e) {
		d.claim(id).entries.add(n)
		d.stale.services.add(id)
	}
}

// hostsOf are the services that a ServiceEntry defines.
func hostsOf(e entry) []config.ServiceID {
	var out []config.ServiceID
	for _, h := range e.spec.GetHosts() {
		id := config.ServiceID{Hostname: canonicalHost(h), Namespace: e.Meta.Namespace}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func canonicalHost(h string) string { return strings.ToLower(strings.TrimSuffix(h, ".")) }

var resolutions = map[networking.ServiceEntry_Resolution]config.Resolution{
	networking.ServiceEntry_NONE:            config.ResolvePassthrough,
	networking.ServiceEntry_STATIC:          config.ResolveEDS,
	networking.ServiceEntry_DNS:             config.ResolveDNS,
	networking.ServiceEntry_DNS_ROUND_ROBIN: config.ResolveDNSRoundRobin,
	networking.ServiceEntry_DYNAMIC_DNS:     config.ResolveDynamicDNS,
}

// entryService is what the ServiceEntries of one namespace say about a host
// together. The first one defines it; those that agree with it in all but
// ports, addresses and endpoints add theirs.
func (d *derivation) entryService(id config.ServiceID, entries []entry) (*config.Service, []config.Problem) {
	first := entries[0]
	exportTo, problems := d.entryVisibility(first)
	s := &config.Service{
		Meta: first.Meta, Hostname: id.Hostname,
		Resolution:   resolutions[first.spec.GetResolution()],
		External:     first.spec.GetLocation() == networking.ServiceEntry_MESH_EXTERNAL,
		ExportTo:     exportTo,
		Distribution: d.distribution(nil, &first.Meta),
	}
	if sel := first.spec.GetWorkloadSelector(); sel != nil {
		s.Selector = sel.GetLabels()
		if s.Selector == nil {
			s.Selector = map[string]string{}
		}
	}
	h := config.NewHasher()
	for i, e := range entries {
		if i > 0 && !mergeable(first, e) {
			problems = append(problems, hostTaken(first, e, id))
			continue
		}
		h.Hash(e.Meta.Hash)
		problems = append(problems, addEntryPorts(s, e)...)
		for _, a := range validAddresses(e.spec.GetAddresses()) {
			if !slices.Contains(s.Addresses, a) {
				s.Addresses = append(s.Addresses, a)
			}
		}
		for _, san := range e.spec.GetSubjectAltNames() {
			if !slices.Contains(s.SubjectAltNames, san) {
				s.SubjectAltNames = append(s.SubjectAltNames, san)
			}
		}
	}
	s.Hash = h.Sum()
	if len(s.Addresses) == 0 {
		s.AutoAddresses = d.autoAddresses(id, entries)
	}
	s.Hash = serviceHash(s)
	return s, problems
}

// hostTaken reports that e cannot define a host because first does.
func hostTaken(first, e entry, id config.ServiceID) config.Problem {
	effect := "has no effect"
	if e.spec.GetResolution() == first.spec.GetResolution() {
		effect = "only adds its endpoints to the ports of the same names"
	}
	return config.At(&e.Meta, "spec.hosts", config.Warning, "HostTaken",
		"host %q is defined by %s, which has precedence (the older one, then by name) and differs in resolution, labels, "+
			"workloadSelector or exportTo: this definition of it %s; merge the two, or make these fields equal",
		id.Hostname, first.Meta.Key, effect)
}

// addEntryPorts adds the ports that the service does not have yet.
func addEntryPorts(s *config.Service, e entry) []config.Problem {
	var problems []config.Problem
	for _, p := range e.spec.GetPorts() {
		next := config.ServicePort{
			Name: p.GetName(), Number: p.GetNumber(), Protocol: config.ParseProtocol(p.GetProtocol()), TargetPort: p.GetTargetPort(),
		}
		if had, ok := s.Port(next.Number); !ok {
			s.Ports = append(s.Ports, next)
		} else if had != next {
			severity := config.Warning
			if had.Protocol == next.Protocol && had.TargetPort == next.TargetPort {
				severity = config.Info // nothing is lost but a name
			}
			problems = append(problems, config.At(&e.Meta, "spec.ports", severity, "PortTaken",
				"port %d of host %q is already defined as %s %q: this definition of it has no effect",
				next.Number, s.Hostname, had.Protocol, had.Name))
		}
	}
	return problems
}

// mergeable reports whether two ServiceEntries of one host can both be in
// effect.
func mergeable(a, b entry) bool {
	x, y := slices.Sorted(slices.Values(a.spec.GetExportTo())), slices.Sorted(slices.Values(b.spec.GetExportTo()))
	return a.spec.GetResolution() == b.spec.GetResolution() && maps.Equal(a.Meta.Labels, b.Meta.Labels) &&
		maps.Equal(a.spec.GetWorkloadSelector().GetLabels(), b.spec.GetWorkloadSelector().GetLabels()) && slices.Equal(x, y)
}

// entryConflicts reports the ServiceEntries that name a Kubernetes Service's
// host in its own namespace.
func entryConflicts(kube *Object, entries []entry) []config.Problem {
	var out []config.Problem
	for _, e := range entries {
		effect := "has no effect"
		if e.spec.GetResolution() == networking.ServiceEntry_STATIC {
			effect = "only adds its endpoints to the Service's ports of the same names"
		}
		out = append(out, config.At(&e.Meta, "spec.hosts", config.Warning, "HostTaken",
			"the host is that of %s, which has precedence: this definition of it %s", kube.Meta.Key, effect))
	}
	return out
}

// wantsAutoAddress reports whether a service needs an allocated address: a
// host of ServiceEntries without addresses, which clients resolve by name and
// whose connections can be told apart by address only. (With resolution NONE
// the address would be the connection's target.)
func (d *derivation) wantsAutoAddress(id config.ServiceID) bool {
	c := d.claim(id)
	entries := d.entries.claiming(c)
	if c.kube != nil || len(entries) == 0 {
		return false
	}
	first := entries[0]
	switch r := first.spec.GetResolution(); {
	case r == networking.ServiceEntry_NONE:
		return false
	case strings.HasPrefix(id.Hostname, "*") && r != networking.ServiceEntry_DYNAMIC_DNS:
		return false
	}
	if strings.EqualFold(first.Meta.Labels[label.NetworkingEnableAutoallocateIp.Name], "false") {
		return false
	}
	for i, e := range entries {
		if (i == 0 || mergeable(first, e)) && len(validAddresses(e.spec.GetAddresses())) > 0 {
			return false
		}
	}
	return len(statusAddresses(id, entries)) == 0
}

// givenAddresses are all that a service's definitions say about addresses.
func (d *derivation) givenAddresses(id config.ServiceID) []string {
	c := d.claim(id)
	var out []string
	if svc, ok := bodyOf[*corev1.Service](c.kube); ok {
		out = append(out, svc.Spec.ClusterIPs...)
	}
	entries := d.entries.claiming(c)
	for _, e := range entries {
		out = append(out, validAddresses(e.spec.GetAddresses())...)
	}
	return append(out, statusAddresses(id, entries)...)
}

// autoAddresses are the addresses allocated for a host: those that the
// ServiceEntry's status says, or else our own.
func (d *derivation) autoAddresses(id config.ServiceID, entries []entry) []string {
	if own := d.auto.of(id); own != nil {
		return own
	}
	first := entries[0]
	if first.spec.GetResolution() == networking.ServiceEntry_NONE ||
		strings.EqualFold(first.Meta.Labels[label.NetworkingEnableAutoallocateIp.Name], "false") {
		return nil
	}
	return statusAddresses(id, entries)
}

func statusAddresses(id config.ServiceID, entries []entry) []string {
	var out []string
	for _, e := range entries {
		for _, a := range e.Status.GetAddresses() {
			if canonicalHost(a.GetHost()) == id.Hostname {
				out = append(out, validAddresses([]string{a.GetValue()})...)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}
