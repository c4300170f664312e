package translate

import (
	"slices"
	"strings"
)

// importFilter is what an egress listener's hosts let in, as
// "namespace/dnsName" (networking/v1alpha3 IstioEgressListener.hosts).
type importFilter struct {
	// byNamespace has the names by namespace; "*" holds for every one.
	byNamespace map[string]*importNames
	// exact reports that no entry has a wildcard, in namespace or name.
	exact bool
}

type importNames struct {
	names    []string
	excluded []string
}

// newImportFilter reads the hosts of an egress listener for a proxy of
// namespace ns. Entries that are not of the form are left out; the field
// table reports them.
func newImportFilter(hosts []string, ns string) *importFilter {
	f := &importFilter{byNamespace: map[string]*importNames{}, exact: true}
	for _, h := range hosts {
		namespace, name, ok := strings.Cut(h, "/")
		if !ok || strings.Contains(name, "/") {
			continue
		}
		namespace, excluded := strings.CutPrefix(namespace, "~")
		switch {
		case excluded && namespace == "":
			namespace = "*"
		case namespace == ".":
			namespace = ns
		}
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		n := f.byNamespace[namespace]
		if n == nil {
			n = &importNames{}
			f.byNamespace[namespace] = n
		}
		if excluded {
			n.excluded = append(n.excluded, name)
			continue
		}
		n.names = append(n.names, name)
		f.exact = f.exact && namespace != "*" && !isWildcard(name)
	}
	return f
}

// everything reports whether nothing is left out.
func (f *importFilter) everything() bool {
	all := f.byNamespace["*"]
	if all == nil || !slices.Contains(all.names, "*") {
		return false
	}
	for _, n := range f.byNamespace {
		if len(n.excluded) > 0 {
			return false
		}
	}
	return true
}

// service reports whether a service of a namespace is let in.
func (f *importFilter) service(namespace, host string) bool {
	covered := func(n *importNames) bool {
		return n != nil && slices.ContainsFunc(n.names, func(name string) bool { return hostCovers(name, host) })
	}
	return !f.excludes(namespace, host) && (covered(f.byNamespace[namespace]) || covered(f.byNamespace["*"]))
}

// virtualService reports whether a VirtualService of a namespace is let in:
// by any of its hosts that overlaps an entry.
func (f *importFilter) virtualService(namespace string, hosts []string) bool {
	overlaps := func(n *importNames, host string) bool {
		return n != nil && slices.ContainsFunc(n.names, func(name string) bool { _, ok := meet(name, host); return ok })
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		return !f.excludes(namespace, h) && (overlaps(f.byNamespace[namespace], h) || overlaps(f.byNamespace["*"], h))
	})
}

func (f *importFilter) excludes(namespace, host string) bool {
	for _, n := range []*importNames{f.byNamespace[namespace], f.byNamespace["*"]} {
		if n != nil && slices.ContainsFunc(n.excluded, func(name string) bool { return hostCovers(name, host) }) {
			return true
		}
	}
	return false
}

// hosts are the names to look for, sorted, if all of them are known.
func (f *importFilter) hosts() []string {
	var out []string
	for _, n := range f.byNamespace {
		out = append(out, n.names...)
	}
	return sortedSet(out)
}

// namespaces are those of which anything may be let in, sorted; all if that is
// any.
func (f *importFilter) namespaces() (list []string, all bool) {
	for ns, n := range f.byNamespace {
		if len(n.names) == 0 {
			continue // it only excludes
		}
		if ns == "*" {
			return nil, true
		}
		list = append(list, ns)
	}
	slices.Sort(list)
	return list, false
}
