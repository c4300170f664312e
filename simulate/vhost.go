package simulate

import (
	"fmt"
	"slices"
	"strings"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// routeTable is a RouteConfiguration with its domains arranged for look-up.
type routeTable struct {
	*route.RouteConfiguration
	exact    map[string]*route.VirtualHost
	suffixes []wildcard // "*.example.com", the longest first
	prefixes []wildcard // "example.*", the longest first
	any      *route.VirtualHost
}

type wildcard struct {
	rest string
	host *route.VirtualHost
}

func newRouteTable(rc *route.RouteConfiguration) *routeTable {
	t := &routeTable{RouteConfiguration: rc, exact: map[string]*route.VirtualHost{}}
	for _, vh := range rc.GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			d = strings.ToLower(d)
			switch {
			case d == "*":
				t.any = vh
			case strings.HasPrefix(d, "*"):
				t.suffixes = append(t.suffixes, wildcard{d[1:], vh})
			case strings.HasSuffix(d, "*"):
				t.prefixes = append(t.prefixes, wildcard{d[:len(d)-1], vh})
			default:
				t.exact[d] = vh
			}
		}
	}
	longest := func(a, b wildcard) int { return len(b.rest) - len(a.rest) }
	slices.SortStableFunc(t.suffixes, longest)
	slices.SortStableFunc(t.prefixes, longest)
	return t
}

// virtualHost finds the virtual host of an authority: the name itself before
// suffix wildcards, those before prefix wildcards, the longest first
// (envoy config.route.v3 VirtualHost.domains).
func (t *routeTable) virtualHost(authority string) (vh *route.VirtualHost, why string) {
	host := strings.ToLower(authority)
	if t.GetIgnorePortInHostMatching() {
		host = withoutPort(host)
	}
	if vh := t.exact[host]; vh != nil {
		return vh, fmt.Sprintf("it has the host %q", host)
	}
	for _, w := range t.suffixes {
		if len(host) > len(w.rest) && strings.HasSuffix(host, w.rest) {
			return w.host, fmt.Sprintf("%q is one of *%s", host, w.rest)
		}
	}
	for _, w := range t.prefixes {
		if len(host) > len(w.rest) && strings.HasPrefix(host, w.rest) {
			return w.host, fmt.Sprintf("%q is one of %s*", host, w.rest)
		}
	}
	if t.any != nil {
		return t.any, fmt.Sprintf("no other virtual host has the host %q", host)
	}
	return nil, ""
}

func withoutPort(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.LastIndexByte(host, ']') > i {
		return host
	}
	return host[:i]
}
