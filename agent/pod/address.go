package pod

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

func parseAddress(s string) (agent.Address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return agent.Address{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return agent.Address{}, fmt.Errorf("%q: want host:port", s)
	}
	return agent.Address{Host: host, Port: uint32(n)}, nil
}

// secure tells whether the control plane is spoken to over TLS.
func (s *settings) secure() bool {
	return s.proxy.ControlPlaneAuthPolicy == "MUTUAL_TLS" || !strings.HasSuffix(s.proxy.DiscoveryAddress, ":15010")
}

func (s *settings) statusPort() uint32 {
	if p := s.proxy.StatusPort; p > 0 {
		return uint32(p)
	}
	return agent.StatusPort
}

// splitLogLevel takes apart "warning,misc:error", the form in which a level
// may also name components.
func splitLogLevel(level, components string) (plain, byComponent string) {
	var parts []string
	for _, p := range commaList(level) {
		if strings.Contains(p, ":") {
			parts = append(parts, p)
		} else {
			plain = p
		}
	}
	if len(parts) > 0 {
		return plain, strings.Join(parts, ",")
	}
	return plain, components
}
