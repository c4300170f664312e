package translate

import (
	"net/netip"
	"sort"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// ProxyConfigType is the type URL under which agents are told whom their proxies
// trust.
const ProxyConfigType = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig"

// NameTableType is the type URL of the table that agents answer DNS queries
// with.
const NameTableType = "type.googleapis.com/istio.networking.nds.v1.NameTable"

// visibleServices are the services that the names of a scope may stand for:
// those in reach behind any of its listeners, each once.
func (s *Scope) visibleServices() []*config.Service {
	var out []*config.Service
	seen := map[*config.Service]bool{}
	for _, e := range s.Egress {
		for _, v := range e.Services {
			if !seen[v.Service] {
				seen[v.Service] = true
				out = append(out, v.Service)
			}
		}
	}
	return out
}

// NamesRead is the identity of the endpoints that a name table of services is
// made of: those of headless ones.
func NamesRead(services []*config.Service, m *config.Mesh) config.Hash {
	h := config.NewHasher()
	for _, s := range services {
		if !s.Headless {
			continue
		}
		if e, ok := m.Endpoints.Get(s.Namespace, s.Hostname); ok {
			h.Hash(e.Hash)
		} else {
			h.Hash(0)
		}
	}
	return h.Sum()
}

// NameTable makes the table of services' names, with the addresses of headless
// services' endpoints from m.
func NameTable(services []*config.Service, m *config.Mesh) *Resource {
	t := config.NameTable{}
	for _, s := range services {
		if n := nameOf(s); len(n.IPs) > 0 {
			addName(t, s.Hostname, n)
		}
		if s.Headless {
			addHeadless(t, s, m)
		}
	}
	b := t.Marshal()
	return &Resource{Version: config.NewHasher().Bytes(b).Sum(), Body: [][]byte{b}}
}

// nameOf is what a service's own name stands for. CIDRs are no answer.
func nameOf(s *config.Service) config.NameInfo {
	n := config.NameInfo{Registry: "External"}
	if s.Kubernetes {
		n = config.NameInfo{Registry: "Kubernetes", Shortname: s.Name, Namespace: s.Namespace}
	}
	list := s.Addresses
	if len(list) == 0 {
		list = s.AutoAddresses
	}
	for _, a := range list {
		if _, err := netip.ParseAddr(a); err == nil {
			n.IPs = append(n.IPs, a)
		}
	}
	return n
}

// addName adds a name. A Kubernetes Service goes before ServiceEntries of its
// name, whose addresses otherwise come together.
func addName(t config.NameTable, host string, n config.NameInfo) {
	have, ok := t[host]
	switch {
	case !ok || n.Registry == "Kubernetes" && have.Registry != "Kubernetes":
		t[host] = n
	case have.Registry == n.Registry && n.Registry == "External":
		have.IPs = append(have.IPs[:len(have.IPs):len(have.IPs)], n.IPs...)
		t[host] = have
	}
}

// addHeadless adds a headless service's endpoints under its name, and those
// with names of their own (a StatefulSet's pods) under these too, as a
// cluster's DNS does.
func addHeadless(t config.NameTable, s *config.Service, m *config.Mesh) {
	e, ok := m.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return
	}
	own := nameOf(s)
	own.IPs = nil
	pods := map[string][]string{}
	seen := map[string]bool{}
	ports := make([]string, 0, len(e.ByPort))
	for port := range e.ByPort {
		ports = append(ports, port)
	}
	sort.Strings(ports)
	for _, port := range ports {
		for i := range e.ByPort[port] {
			x := &e.ByPort[port][i]
			if _, err := netip.ParseAddr(x.Address); err != nil || seen[x.Address] || x.Health != config.Healthy && !s.PublishNotReady {
				continue
			}
			seen[x.Address] = true
			ips := append([]string{x.Address}, x.MoreAddresses...)
			own.IPs = append(own.IPs, ips...)
			if x.Hostname != "" {
				pods[x.Hostname] = append(pods[x.Hostname], ips...)
			}
		}
	}
	if len(own.IPs) == 0 {
		return
	}
	addName(t, s.Hostname, own)
	for pod, ips := range pods {
		n := config.NameInfo{Registry: own.Registry, IPs: ips}
		if s.Kubernetes {
			n.Shortname, n.Namespace = pod+"."+s.Name, s.Namespace
		}
		addName(t, pod+"."+s.Hostname, n)
	}
}
