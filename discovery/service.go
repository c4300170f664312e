package discovery

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"istio.io/api/annotation"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// claim is everyone who defines a service: a Kubernetes Service, the
// ServiceEntries of its namespace that name its host, or both.
type claim struct {
	kube    *Object
	entries set[name]
	// service and endpoints are what the newest Mesh holds, nil for nothing.
	service   *config.Service
	endpoints *config.Endpoints
	problems  []config.Problem
}

func (d *derivation) claim(id config.ServiceID) *claim {
	c := d.claims[id]
	if c == nil {
		c = &claim{entries: set[name]{}}
		d.claims[id] = c
	}
	return c
}

// hostnameOf is the full name of a Kubernetes Service.
func (d *derivation) hostnameOf(n name) config.ServiceID {
	return config.ServiceID{Hostname: n.name + "." + n.ns + ".svc." + d.settings.DomainSuffix, Namespace: n.ns}
}

func (d *derivation) serviceChange(n name, before, after *Object) {
	id := d.hostnameOf(n)
	if before != nil {
		delete(d.services, n)
		d.selectors.remove(n.ns, n)
	}
	d.claim(id).kube = after
	if after != nil {
		d.services[n] = after
		if svc, ok := after.Body.(*corev1.Service); ok && len(svc.Spec.Selector) > 0 {
			d.selectors.add(n.ns, n)
		}
	}
	d.stale.services.add(id)
}

// deriveServices makes the stale services. Endpoints follow their service.
func (d *derivation) deriveServices(b *config.Builder) {
	for id := range d.stale.services {
		moved := d.auto.reserve(id, d.givenAddresses(id))
		for _, m := range append(moved, d.auto.want(id, d.wantsAutoAddress(id))...) {
			d.stale.services.add(m)
		}
	}
	field := func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }
	for id := range d.stale.services {
		c := d.claim(id)
		d.stale.endpoints.add(id)
		made, problems := d.makeService(id, c)
		d.setClaimProblems(c, problems)
		switch {
		case made == nil && c.service != nil:
			config.Remove(b, field, id.Namespace, id.Hostname)
		case made != nil && (c.service == nil || c.service.Hash != made.Hash || !samePlace(&c.service.Meta, &made.Meta)):
			config.Put(b, field, made)
		default:
			continue
		}
		c.service = made
	}
}

// samePlace reports whether two versions stand at the same place in a file.
func samePlace(a, b *config.Meta) bool {
	return a.File == b.File && a.Line == b.Line && a.Version == b.Version && maps.Equal(a.Lines, b.Lines)
}

func (d *derivation) makeService(id config.ServiceID, c *claim) (*config.Service, []config.Problem) {
	entries := d.entries.claiming(c)
	if c.kube != nil {
		return d.kubeService(id, c.kube), entryConflicts(c.kube, entries)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return d.entryService(id, entries)
}

// kubeService is a Kubernetes Service as clients see it.
func (d *derivation) kubeService(id config.ServiceID, o *Object) *config.Service {
	svc, ok := o.Body.(*corev1.Service)
	if !ok {
		return nil
	}
	s := &config.Service{
		Meta: o.Meta, Hostname: id.Hostname, Kubernetes: true,
		Selector:        svc.Spec.Selector,
		PublishNotReady: svc.Spec.PublishNotReadyAddresses,
		NodeLocal:       svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		Distribution:    d.distribution(svc.Spec.TrafficDistribution, &o.Meta),
		SubjectAltNames: d.serviceAccounts(&o.Meta),
	}
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName && svc.Spec.ExternalName != "":
		s.ExternalName = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, "."))
		s.External = true
		s.Resolution = config.ResolveDNS
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		s.Headless = true
		s.Resolution = config.ResolvePassthrough
	default:
		s.Addresses = svc.Spec.ClusterIPs
		if len(s.Addresses) == 0 && svc.Spec.ClusterIP != "" {
			s.Addresses = []string{svc.Spec.ClusterIP}
		}
	}
	for i := range svc.Spec.Ports {
		s.Ports = append(s.Ports, kubePort(&svc.Spec.Ports[i]))
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if addr := cmp.Or(in.IP, in.Hostname); addr != "" {
			s.LoadBalancerIPs = append(s.LoadBalancerIPs, addr)
		}
	}
	s.LoadBalancerIPs = append(s.LoadBalancerIPs, svc.Spec.ExternalIPs...)
	var exportTo []string
	if a := o.Meta.Annotations[annotation.NetworkingExportTo.Name]; a != "" {
		exportTo = strings.Split(a, ",")
	}
	s.ExportTo = d.visibility(exportTo, id.Namespace)
	s.Hash = serviceHash(s)
	return s
}

func kubePort(p *corev1.ServicePort) config.ServicePort {
	out := config.ServicePort{Name: p.Name, Number: uint32(p.Port), Protocol: portProtocol(p)}
	switch {
	case p.TargetPort.Type == intstr.String:
		out.TargetPortName = p.TargetPort.StrVal
	case p.TargetPort.IntVal > 0:
		out.TargetPort = uint32(p.TargetPort.IntVal)
	}
	return out
}

// distribution is the field, or the annotation of the service or of its
// namespace (letter case aside there), in the field's spelling; empty for
// none.
func (d *derivation) distribution(field *string, m *config.Meta) string {
	key := annotation.NetworkingTrafficDistribution.Name
	values := []string{
		corev1.ServiceTrafficDistributionPreferClose,
		corev1.ServiceTrafficDistributionPreferSameZone,
		corev1.ServiceTrafficDistributionPreferSameNode,
	}
	if field != nil && slices.Contains(values, *field) {
		return *field
	}
	given := cmp.Or(m.Annotations[key], d.namespaces.annotation(m.Namespace, key))
	for _, v := range values {
		if strings.EqualFold(v, given) {
			return v
		}
	}
	return ""
}

// serviceAccounts are the identities that the Service's annotations promise
// for its workloads.
func (d *derivation) serviceAccounts(m *config.Meta) []string {
	var out []string
	if a := m.Annotations[annotation.AlphaCanonicalServiceAccounts.Name]; a != "" {
		out = append(out, strings.Split(a, ",")...)
	}
	if a := m.Annotations[annotation.AlphaKubernetesServiceAccounts.Name]; a != "" {
		for _, sa := range strings.Split(a, ",") {
			out = append(out, "spiffe://"+d.settings.Mesh.GetTrustDomain()+"/ns/"+m.Namespace+"/sa/"+strings.TrimSpace(sa))
		}
	}
	return out
}

// serviceHash identifies everything of a service.
func serviceHash(s *config.Service) config.Hash {
	h := config.NewHasher().Hash(s.Meta.Hash).Str(s.Hostname, s.ExternalName, s.Distribution)
	for _, list := range [][]string{s.Addresses, s.AutoAddresses, s.SubjectAltNames, s.LoadBalancerIPs, s.ExportTo.Namespaces} {
		h.Uint(uint64(len(list))).Str(list...)
	}
	h.Uint(uint64(len(s.Ports)))
	for _, p := range s.Ports {
		h.Str(p.Name, string(p.Protocol), p.TargetPortName).Uint(uint64(p.Number)).Uint(uint64(p.TargetPort))
	}
	h.Uint(uint64(s.Resolution)).Map(s.Selector).Bool(s.Selector == nil)
	for _, b := range []bool{s.Headless, s.External, s.Kubernetes, s.ExportTo.Public, s.ExportTo.None, s.PublishNotReady, s.NodeLocal} {
		h.Bool(b)
	}
	return h.Sum()
}

// validAddresses keeps IPs and CIDRs; a CIDR of one address becomes it.
func validAddresses(list []string) []string {
	var out []string
	for _, a := range list {
		if ip, err := netip.ParseAddr(a); err == nil {
			out = append(out, ip.String())
		} else if p, err := netip.ParsePrefix(a); err == nil {
			if p.Bits() == p.Addr().BitLen() {
				out = append(out, p.Addr().String())
			} else {
				out = append(out, p.Masked().String())
			}
		}
	}
	return out
}
