package names

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// ReadResolver reads a resolv.conf.
func ReadResolver(file string) (Resolver, error) {
	var r Resolver
	b, err := os.ReadFile(file)
	if err != nil {
		return r, fmt.Errorf("DNS settings: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				r.Servers = append(r.Servers, net.JoinHostPort(f[1], "53"))
			}
		case "search", "domain": // the last line counts (resolv.conf(5))
			r.Search = nil
			for _, d := range f[1:] {
				if d = strings.ToLower(strings.Trim(d, ".")); d != "" {
					r.Search = append(r.Search, d)
				}
			}
		}
	}
	return r, nil
}
