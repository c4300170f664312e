package config

import (
	"net/netip"
	"strings"
)

// Lookup answers as a cluster's DNS does for a pod of a namespace: the
// address of a service of the mesh by any of the forms of its name.
func (m *Mesh) Lookup(ns, host string) (netip.Addr, *Service) {
	return m.lookup(ns, host, maxAliases)
}

// maxAliases ends a circle of ExternalNames.
const maxAliases = 8

func (m *Mesh) lookup(ns, host string, aliases int) (netip.Addr, *Service) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	suffix := m.Settings.DomainSuffix
	for _, name := range []string{host + "." + ns + ".svc." + suffix, host + ".svc." + suffix, host + "." + suffix, host} {
		for _, in := range m.Services.Namespaces() {
			if s, ok := m.Services.Get(in, name); ok {
				if a, ok := m.addressOf(s, aliases); ok {
					return a, s
				}
			}
		}
	}
	return netip.Addr{}, nil
}

func (m *Mesh) addressOf(s *Service, aliases int) (netip.Addr, bool) {
	for _, list := range [][]string{s.Addresses, s.AutoAddresses} {
		for _, text := range list {
			if a, err := netip.ParseAddr(text); err == nil {
				return a, true
			}
		}
	}
	if s.ExternalName != "" && aliases > 0 {
		a, _ := m.lookup(s.Namespace, s.ExternalName, aliases-1)
		return a, a.IsValid()
	}
	if e, ok := m.Endpoints.Get(s.Namespace, s.Hostname); ok {
		for _, p := range s.Ports {
			for i := range e.ByPort[p.Name] {
				if a, err := netip.ParseAddr(e.ByPort[p.Name][i].Address); err == nil {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}
