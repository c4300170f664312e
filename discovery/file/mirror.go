package file

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// mirror makes EndpointSlices of the Endpoints of Services without a selector,
// as Kubernetes' mirroring controller does; have are the Services that have
// slices.
func (c *cluster) mirror(have map[config.Key]bool) {
	selecting := map[config.Key]bool{}
	for _, o := range c.given {
		if svc, ok := o.Body.(*corev1.Service); ok && len(svc.Spec.Selector) > 0 {
			selecting[o.Meta.Key] = true
		}
	}
	for _, o := range c.given {
		e, ok := o.Body.(*corev1.Endpoints) //nolint:staticcheck // deprecated, and still written
		key := serviceKey(o.Meta.Namespace, o.Meta.Name)
		if !ok || have[key] || selecting[key] {
			continue
		}
		for i := range e.Subsets {
			for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
				if s := mirrored(&e.Subsets[i], family); len(s.Endpoints) > 0 {
					c.keepSlice(o, s, "mirror-"+strconv.Itoa(i))
				}
			}
		}
	}
}

//nolint:staticcheck // as above
func mirrored(subset *corev1.EndpointSubset, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: family}
	for _, p := range subset.Ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	add := func(list []corev1.EndpointAddress, ready bool) {
		for _, a := range list {
			if familyOf(a.IP) != family {
				continue
			}
			e := discoveryv1.Endpoint{
				Addresses: []string{a.IP}, NodeName: a.NodeName,
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			}
			if a.Hostname != "" {
				e.Hostname = &a.Hostname
			}
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	add(subset.Addresses, true)
	add(subset.NotReadyAddresses, false)
	return s
}

// keepSlice names a slice of o's Service and keeps it.
func (c *cluster) keepSlice(o *discovery.Object, s *discoveryv1.EndpointSlice, suffix string) {
	s.Name = o.Meta.Name + "-" + strings.ToLower(string(s.AddressType)) + "-" + suffix
	s.Namespace = o.Meta.Namespace
	s.Labels = map[string]string{discoveryv1.LabelServiceName: o.Meta.Name}
	meta := o.Meta
	meta.Key = config.Key{Group: sliceGroup, Kind: "EndpointSlice", Namespace: s.Namespace, Name: s.Name}
	meta.Labels, meta.Annotations = s.Labels, nil
	c.keep(&discovery.Object{Meta: meta, Body: s})
}
