package file

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// cluster does for the objects of a folder what the API server and the
// controllers of a cluster do: namespaces exist, Services have addresses,
// workload templates have pods, and Services have EndpointSlices. Everything
// it makes depends on the objects alone, so the same folder always makes the
// same mesh; what the folder gives itself stays as it is.
type cluster struct {
	given     []*discovery.Object
	addresses func(pod config.Key, labels map[string]string) []string
	sidecars  func(pod config.Key) bool // nil: none

	objects  []*discovery.Object
	problems []config.Problem
	nodes    []*corev1.Node           // by name
	pods     map[string][]*corev1.Pod // by namespace, then name
	byLabel  map[labelled][]*corev1.Pod
}

func newCluster(given []*discovery.Object, addresses func(config.Key, map[string]string) []string) *cluster {
	return &cluster{given: given, addresses: addresses, pods: map[string][]*corev1.Pod{}}
}

// run fills objects and returns what is wrong with the given ones.
func (c *cluster) run() []config.Problem {
	c.namespaces()
	c.services()
	c.scheduleOn()
	c.workloads()
	c.endpoints()
	return c.problems
}

func (c *cluster) keep(o *discovery.Object) { c.objects = append(c.objects, o) }

// with is o with another body.
func with(o *discovery.Object, body any) *discovery.Object {
	return &discovery.Object{Meta: o.Meta, Body: body}
}

// namespaces adds those that objects are in, and the label that each carries
// its name in.
func (c *cluster) namespaces() {
	known := map[string]bool{"": true}
	for _, o := range c.given {
		if ns, ok := o.Body.(*corev1.Namespace); ok {
			known[ns.Name] = true
			c.keep(named(o))
		}
	}
	for _, o := range c.given {
		if ns := o.Meta.Namespace; !known[ns] {
			known[ns] = true
			key := config.Key{Kind: "Namespace", Name: ns}
			c.keep(named(&discovery.Object{Meta: config.Meta{Key: key, Version: "v1", Implied: true}, Body: &corev1.Namespace{}}))
		}
	}
}

func named(o *discovery.Object) *discovery.Object {
	labels := map[string]string{}
	for k, v := range o.Meta.Labels {
		labels[k] = v
	}
	labels[corev1.LabelMetadataName] = o.Meta.Name
	out := *o
	out.Meta.Labels = labels
	return &out
}

// Ranges of the addresses of Services, as kubeadm has them.
var (
	serviceRange4 = netip.MustParsePrefix("10.96.0.0/12")
	serviceRange6 = netip.MustParsePrefix("fd00:10:96::/108")
)

const serviceNumbers = 1 << 20

// services gives cluster IPs to Services that have none and want one.
func (c *cluster) services() {
	pool := discovery.NewPool(serviceNumbers-2, func(k config.Key) config.Hash {
		return config.NewHasher().Str(k.Namespace, k.Name).Sum()
	})
	var without []*discovery.Object
	for _, o := range c.given {
		svc, ok := o.Body.(*corev1.Service)
		if !ok {
			continue
		}
		if wantsClusterIP(svc) {
			without = append(without, o)
			pool.Add(o.Meta.Key)
			continue
		}
		c.keep(o)
		for _, ip := range append(slices.Clone(svc.Spec.ClusterIPs), svc.Spec.ClusterIP) {
			if n, ok := serviceNumber(ip); ok {
				pool.Reserve(n)
			}
		}
	}
	for _, o := range without {
		n, ok := pool.Number(o.Meta.Key)
		svc, isService := o.Body.(*corev1.Service)
		if !ok || !isService {
			c.keep(o)
			continue
		}
		c.keep(with(o, withClusterIPs(svc, n)))
	}
}

func wantsClusterIP(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) == 0 && svc.Spec.Type != corev1.ServiceTypeExternalName
}

func withClusterIPs(svc *corev1.Service, n uint32) *corev1.Service {
	families := slices.Clone(svc.Spec.IPFamilies)
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if p := svc.Spec.IPFamilyPolicy; p != nil && *p != corev1.IPFamilyPolicySingleStack && len(families) == 1 {
		other := corev1.IPv6Protocol
		if families[0] == corev1.IPv6Protocol {
			other = corev1.IPv4Protocol
		}
		families = append(families, other)
	}
	out := *svc
	out.Spec.ClusterIPs = nil
	for _, f := range families {
		out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, serviceAddress(f, n))
	}
	out.Spec.ClusterIP = out.Spec.ClusterIPs[0]
	out.Spec.IPFamilies = families
	return &out
}

// serviceAddress is the address of number n: neither range's first nor last
// one is used.
func serviceAddress(f corev1.IPFamily, n uint32) string {
	n++
	if f == corev1.IPv6Protocol {
		a := serviceRange6.Addr().As16()
		a[13], a[14], a[15] = a[13]|byte(n>>16), byte(n>>8), byte(n)
		return netip.AddrFrom16(a).String()
	}
	a := serviceRange4.Addr().As4()
	a[1], a[2], a[3] = a[1]|byte(n>>16), byte(n>>8), byte(n)
	return netip.AddrFrom4(a).String()
}

func serviceNumber(ip string) (uint32, bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return 0, false
	}
	var b [3]byte
	switch {
	case serviceRange4.Contains(a):
		v := a.As4()
		b = [3]byte{v[1] & 0x0f, v[2], v[3]}
	case serviceRange6.Contains(a):
		v := a.As16()
		b = [3]byte{v[13] & 0x0f, v[14], v[15]}
	default:
		return 0, false
	}
	n := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	return n - 1, n > 0 && n < serviceNumbers-1
}

func (c *cluster) warn(o *discovery.Object, field, code, format string, args ...any) {
	p := config.At(&o.Meta, field, config.Warning, code, "%s", fmt.Sprintf(format, args...))
	c.problems = append(c.problems, p)
}
