package translate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// nameReach says which short forms of a host a client may use; virtual hosts
// are shared between clients of equal reach.
type nameReach int

const (
	noShortNames nameReach = iota
	otherNamespace
	sameNamespace
	// sharedDomain: neither is in Kubernetes; the client's DNS domain counts.
	sharedDomain
)

// reachOf compares a host with a client's DNS domain, such as
// shop.svc.cluster.local. Where that is a Kubernetes domain, only services of
// the same cluster domain have short forms: those of other hosts could be
// mistaken for services.
func reachOf(host, dnsDomain string) nameReach {
	ns, cluster, ok := strings.Cut(dnsDomain, ".svc.")
	if !ok {
		if dnsDomain == "" {
			return noShortNames
		}
		return sharedDomain
	}
	before, after, ok := strings.Cut(host, ".svc.")
	if !ok || after != cluster {
		return noShortNames
	}
	_, hostNS, ok := strings.Cut(before, ".")
	switch {
	case !ok:
		return noShortNames
	case hostNS == ns:
		return sameNamespace
	}
	return otherNamespace
}

// shortNames are the forms of a host below its full name that a client's
// resolver completes.
func shortNames(host, dnsDomain string) []string {
	switch reachOf(host, dnsDomain) {
	case sameNamespace:
		before, _, _ := strings.Cut(host, ".svc.")
		name, _, _ := strings.Cut(before, ".")
		return []string{name, before + ".svc", before}
	case otherNamespace:
		before, _, _ := strings.Cut(host, ".svc.")
		return []string{before, before + ".svc"}
	case sharedDomain:
		return underSharedDomain(host, dnsDomain)
	}
	return nil
}

// underSharedDomain drops the labels that host and domain have in common at
// their ends: foo.local.campus.net is foo to clients of local.campus.net and
// foo.local to those of campus.net.
func underSharedDomain(host, domain string) []string {
	h, d := strings.Split(host, "."), strings.Split(domain, ".")
	shared := 0
	for shared < len(h) && shared < len(d) && h[len(h)-1-shared] == d[len(d)-1-shared] {
		shared++
	}
	if shared == 0 || shared == len(h) {
		return nil
	}
	own := h[:len(h)-shared]
	out := []string{strings.Join(own, ".")}
	if len(own) == 2 {
		out = append(out, strings.Join(h[:3], "."))
	}
	return out
}

// nameForms are the forms in which a table knows a name.
type nameForms int

const (
	// bareForm: the name. The table ignores the port of a request's host.
	bareForm nameForms = iota
	// bothForms: the name and host:port.
	bothForms
	// portForm: host:port alone, where several ports of a name are in one
	// table.
	portForm
)

// domains are what a client may call a virtual host. The first few, its
// proper names, outrank the short forms and addresses of other hosts.
type domains struct {
	names  []string
	proper int
}

func (d *domains) add(forms nameForms, port uint32, names ...string) {
	for _, n := range names {
		if strings.Contains(n, ":") {
			n = "[" + n + "]" // an IPv6 address
		}
		if forms != portForm {
			d.addOnce(n)
		}
		if forms != bareForm {
			d.addOnce(n + ":" + strconv.Itoa(int(port)))
		}
	}
}

func (d *domains) addOnce(n string) {
	if !slices.Contains(d.names, n) {
		d.names = append(d.names, n)
	}
}

// properNames are the host and, for a name, its absolute form with a final dot.
func properNames(host string) []string {
	if host == "*" || isIP(host) {
		return []string{host}
	}
	return []string{host, host + "."}
}

// domainsOf are the names of a virtual host. A host without a service has its
// own name only.
func domainsOf(host string, s *VisibleService, aliases []string, dnsDomain string, forms nameForms, port uint32) domains {
	var d domains
	d.add(forms, port, properNames(host)...)
	d.proper = len(d.names)
	if s == nil {
		return d
	}
	names := append(properNames(host), shortNames(host, dnsDomain)...)
	for _, a := range aliases {
		names = append(append(names, properNames(a)...), shortNames(a, dnsDomain)...)
	}
	d.add(forms, port, names...)
	if s.Headless && s.Kubernetes {
		for _, n := range names {
			if !isWildcard(n) {
				d.add(forms, port, "*."+n) // its pods
			}
		}
	}
	d.add(forms, port, addressesOf(s.Service)...)
	return d
}

// addressesOf are the single addresses by which a service may be called;
// blocks of addresses are no Host header.
func addressesOf(s *config.Service) []string {
	var out []string
	for _, list := range [][]string{s.Addresses, s.AutoAddresses} {
		for _, a := range list {
			if addr, bits, block := strings.Cut(a, "/"); block {
				if bits != "32" && bits != "128" {
					continue
				}
				a = addr
			}
			if isIP(a) && a != "0.0.0.0" && a != "::" {
				out = append(out, a)
			}
		}
	}
	return out
}
