package translate

import (
	"net/netip"
	"strings"
)

// fullHost spells out a host as an object of namespace ns means it: in lower
// case, without a trailing dot, and a name without dots as the Kubernetes
// service of that name in ns. Wildcards and IP addresses stay as they are.
func fullHost(host, ns, domainSuffix string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || host[0] == '*' || strings.ContainsAny(host, ".:") { // a colon: IPv6
		return host
	}
	return host + "." + ns + ".svc." + domainSuffix
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func isWildcard(host string) bool { return host != "" && host[0] == '*' }

// hostCovers reports whether every name that host stands for is one of pattern:
// "*.example.com" covers "a.example.com" and "*.a.example.com", not
// "example.com".
func hostCovers(pattern, host string) bool {
	if !isWildcard(pattern) {
		return pattern == host
	}
	if isWildcard(host) {
		return len(host) >= len(pattern) && strings.HasSuffix(host[1:], pattern[1:])
	}
	return strings.HasSuffix(host, pattern[1:])
}

// meet is the narrower of two hosts where they overlap.
func meet(a, b string) (string, bool) {
	switch {
	case hostCovers(a, b):
		return b, true
	case hostCovers(b, a):
		return a, true
	}
	return "", false
}

// fullGateway spells out the gateway that a VirtualService of namespace ns
// means: "mesh", or namespace/name. A dotted name without a slash is the old
// form name.namespace.svc.cluster.local.
func fullGateway(gateway, ns string) string {
	if gateway == meshGateway {
		return gateway
	}
	if before, name, ok := strings.Cut(gateway, "/"); ok {
		if before == "." {
			return ns + "/" + name
		}
		return gateway
	}
	name, rest, dotted := strings.Cut(gateway, ".")
	if !dotted {
		return ns + "/" + gateway
	}
	namespace, _, _ := strings.Cut(rest, ".")
	return namespace + "/" + name
}

// meshGateway stands for all sidecars in VirtualService.gateways.
const meshGateway = "mesh"
