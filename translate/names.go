package translate

import (
	"strconv"
	"strings"
)

// Names of the resources that exist once per proxy.
const (
	BlackHoleCluster           = "BlackHoleCluster"
	PassthroughCluster         = "PassthroughCluster"
	InboundPassthroughCluster  = "InboundPassthroughCluster"
	AllowAnyDynamicDNSCluster  = "AllowAnyDynamicDNSCluster"
	VirtualOutboundListener    = "virtualOutbound"
	VirtualInboundListener     = "virtualInbound"
	VirtualInboundBlackHole    = "virtualInbound-blackhole"
	VirtualInboundCatchAllHTTP = "virtualInbound-catchall-http"
	BlackHoleRoute             = "block_all"
	PassthroughRoute           = "allow_any"
	DynamicDNSRoute            = "allow_any_dynamic_dns"
	provenanceFilter           = "istio"
	provenanceField            = "config"
)

// OutboundCluster is the name of the cluster of a service's port, or of a
// subset of it: outbound|80|v1|host. Subset may be empty.
func OutboundCluster(port uint32, subset, host string) string {
	return "outbound|" + strconv.FormatUint(uint64(port), 10) + "|" + subset + "|" + host
}

// InboundCluster is the name of the cluster of a port of the workload's own:
// inbound|8080||.
func InboundCluster(port uint32) string {
	return "inbound|" + strconv.FormatUint(uint64(port), 10) + "||"
}

// SNICluster is the name of the cluster that AUTO_PASSTHROUGH gateways and the
// SNI of mesh mTLS use: outbound_.80_.v1_.host.
func SNICluster(port uint32, subset, host string) string {
	return "outbound_." + strconv.FormatUint(uint64(port), 10) + "_." + subset + "_." + host
}

// ParseCluster splits a name made by OutboundCluster or InboundCluster.
func ParseCluster(name string) (direction string, port uint32, subset, host string, ok bool) {
	parts := strings.Split(name, "|")
	if len(parts) != 4 {
		return "", 0, "", "", false
	}
	n, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return "", 0, "", "", false
	}
	return parts[0], uint32(n), parts[2], parts[3], true
}
