package file

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

const sliceGroup = "discovery.k8s.io"

// endpoints makes EndpointSlices for the Services with a selector that have
// none in the folder.
func (c *cluster) endpoints() {
	have := map[config.Key]bool{}
	for _, o := range c.given {
		if s, ok := o.Body.(*discoveryv1.EndpointSlice); ok {
			have[serviceKey(o.Meta.Namespace, s.Labels[discoveryv1.LabelServiceName])] = true
		}
	}
	c.mirror(have)
	for _, o := range c.objects {
		svc, ok := o.Body.(*corev1.Service)
		if !ok || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || have[o.Meta.Key] {
			continue
		}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			c.slicesOf(o, svc, family)
		}
	}
}

// slicesGiven keeps the folder's own EndpointSlices. Endpoints that name a pod
// which the folder does not hold stand for themselves: no cluster will bring
// that pod.
func (c *cluster) slicesGiven(pods map[config.Key]bool) {
	for _, o := range c.given {
		s, ok := o.Body.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		out := *s
		out.Endpoints = slices.Clone(s.Endpoints)
		for i := range out.Endpoints {
			e := &out.Endpoints[i]
			if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
				ns := cmp.Or(ref.Namespace, o.Meta.Namespace)
				if !pods[config.Key{Kind: "Pod", Namespace: ns, Name: ref.Name}] {
					e.TargetRef = nil
				}
			}
		}
		c.keep(with(o, &out))
	}
}

func serviceKey(ns, name string) config.Key {
	return config.Key{Kind: "Service", Namespace: ns, Name: name}
}

// slicesOf makes a Service's slices of one address family: one for each
// combination of port numbers that its pods have for the named target ports.
func (c *cluster) slicesOf(o *discovery.Object, svc *corev1.Service, family discoveryv1.AddressType) {
	if !serves(svc, family) {
		return
	}
	made := map[string]*discoveryv1.EndpointSlice{}
	var order []string
	for _, p := range c.selected(o.Meta.Namespace, svc.Spec.Selector) {
		ip := addressOf(p, family)
		if ip == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		ports, id := targetPorts(svc, p)
		s := made[id]
		if s == nil {
			s = &discoveryv1.EndpointSlice{AddressType: family, Ports: ports}
			made[id] = s
			order = append(order, id)
		}
		s.Endpoints = append(s.Endpoints, c.endpoint(o, svc, p, ip))
	}
	slices.Sort(order)
	for i, id := range order {
		c.keepSlice(o, made[id], strconv.Itoa(i))
	}
}

// labelled is one label in one namespace.
type labelled struct{ ns, key, value string }

// selected are the pods that a selector picks, by name.
func (c *cluster) selected(ns string, selector map[string]string) []*corev1.Pod {
	if c.byLabel == nil {
		c.byLabel = map[labelled][]*corev1.Pod{}
		for ns, list := range c.pods {
			for _, p := range list {
				for k, v := range p.Labels {
					c.byLabel[labelled{ns, k, v}] = append(c.byLabel[labelled{ns, k, v}], p)
				}
			}
		}
	}
	// The rarest of the labels leaves the fewest pods to look at.
	var fewest []*corev1.Pod
	first := true
	for k, v := range selector {
		if list := c.byLabel[labelled{ns, k, v}]; first || len(list) < len(fewest) {
			fewest, first = list, false
		}
	}
	var out []*corev1.Pod
	for _, p := range fewest {
		if config.Selects(selector, p.Labels) {
			out = append(out, p)
		}
	}
	return out
}

// serves reports whether a Service has the address family: that of its cluster
// IPs, or for a headless one, that it asks for, IPv4 if nothing is said.
func serves(svc *corev1.Service, family discoveryv1.AddressType) bool {
	if len(svc.Spec.IPFamilies) > 0 {
		return slices.Contains(svc.Spec.IPFamilies, corev1.IPFamily(family))
	}
	ip := svc.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone {
		return true // whatever its pods have
	}
	return familyOf(ip) == family
}

func familyOf(ip string) discoveryv1.AddressType {
	a, err := netip.ParseAddr(ip)
	if err == nil && a.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func addressOf(p *corev1.Pod, family discoveryv1.AddressType) string {
	for _, ip := range p.Status.PodIPs {
		if familyOf(ip.IP) == family {
			return ip.IP
		}
	}
	if len(p.Status.PodIPs) == 0 && p.Status.PodIP != "" && familyOf(p.Status.PodIP) == family {
		return p.Status.PodIP
	}
	return ""
}

// targetPorts are a Service's ports at a pod. A port whose target's name the
// pod does not have is left out. id tells different results apart.
func targetPorts(svc *corev1.Service, p *corev1.Pod) (ports []discoveryv1.EndpointPort, id string) {
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		number := sp.Port
		switch {
		case sp.TargetPort.Type == intstr.String:
			number = containerPort(p, sp.TargetPort.StrVal)
		case sp.TargetPort.IntVal != 0:
			number = sp.TargetPort.IntVal
		}
		if number == 0 {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: sp.AppProtocol})
		id += name + "=" + strconv.Itoa(int(number)) + ","
	}
	return ports, id
}

func containerPort(p *corev1.Pod, name string) int32 {
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if port.Name == name {
				return port.ContainerPort
			}
		}
	}
	return 0
}

func (c *cluster) endpoint(o *discovery.Object, svc *corev1.Service, p *corev1.Pod, ip string) discoveryv1.Endpoint {
	ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	serving, terminating := ready, p.DeletionTimestamp != nil
	ready = (ready && !terminating) || svc.Spec.PublishNotReadyAddresses
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == o.Meta.Name {
		hostname := p.Spec.Hostname
		e.Hostname = &hostname
	}
	if node := p.Spec.NodeName; node != "" {
		e.NodeName = &node
		i := slices.IndexFunc(c.nodes, func(n *corev1.Node) bool { return n.Name == node })
		if i >= 0 {
			if zone := c.nodes[i].Labels[corev1.LabelTopologyZone]; zone != "" {
				e.Zone = &zone
			}
		}
	}
	return e
}
