package simulate

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// Kinds of Destination.Discovery.
const (
	discoveryEDS     = "eds"
	discoveryStatic  = "static"
	discoveryDNS     = "dns"
	discoveryOrigin  = "originalDst"
	discoveryForward = "dynamicForwardProxy"
)

// destination says where a cluster's share of the requests goes.
func (e *exchange) destination(name string, percent float64, no unavailable) Destination {
	d := Destination{Cluster: name, Percent: percent}
	c := e.config.cluster(name)
	if c == nil {
		d.Reply = no("cluster "+orNone(name)+" does not exist", "NC")
		return d
	}
	d.Source = sourceOfCluster(c)
	var assigned *endpoint.ClusterLoadAssignment
	switch t := c.GetClusterDiscoveryType().(type) {
	case *cluster.Cluster_ClusterType:
		d.Discovery = discoveryForward
		if t.ClusterType.GetName() == "envoy.cluster.dns" {
			d.Discovery, assigned = discoveryDNS, c.GetLoadAssignment()
			break
		}
		if t.ClusterType.GetName() != "envoy.clusters.dynamic_forward_proxy" {
			e.hop.unknown("cluster type " + t.ClusterType.GetName())
		}
		e.forwardProxy(&d, c)
		return d
	case *cluster.Cluster_Type:
		switch t.Type {
		case cluster.Cluster_ORIGINAL_DST:
			d.Discovery = discoveryOrigin
			e.original(&d, c, no)
			return d
		case cluster.Cluster_EDS:
			d.Discovery = discoveryEDS
			key := name
			if s := c.GetEdsClusterConfig().GetServiceName(); s != "" {
				key = s
			}
			if assigned = e.config.assignment(key); assigned == nil {
				d.Reply = no("cluster "+name+" has no endpoints yet", "UH")
				return d
			}
		case cluster.Cluster_STRICT_DNS, cluster.Cluster_LOGICAL_DNS:
			d.Discovery, assigned = discoveryDNS, c.GetLoadAssignment()
		default:
			d.Discovery, assigned = discoveryStatic, c.GetLoadAssignment()
		}
	}
	d.Balance = c.GetLbPolicy().String()
	if c.GetLoadBalancingPolicy() != nil {
		d.Balance = c.GetLoadBalancingPolicy().GetPolicies()[0].GetTypedExtensionConfig().GetName()
	}
	if c.GetLbSubsetConfig() != nil {
		e.hop.unknown("cluster " + name + " picks endpoints by subset metadata")
	}
	e.pick(&d, c, assigned, no)
	return d
}

// original follows the connection's original destination.
func (e *exchange) original(d *Destination, c *cluster.Cluster, no unavailable) {
	if !e.restored {
		d.Reply = no("the connection's original destination is not known", "UH")
		return
	}
	to := e.conn.Destination
	port := to.Port()
	if p := c.GetOriginalDstLbConfig().GetUpstreamPortOverride(); p != nil {
		port = uint16(p.GetValue()) //nolint:gosec // a port
	}
	if c.GetOriginalDstLbConfig().GetUseHttpHeader() {
		e.hop.unknown("the request's headers may name the endpoint (use_http_header)")
	}
	d.Endpoints = []Endpoint{e.secured(c, nil, Endpoint{
		Address: net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(port))), Percent: 100,
	})}
}

// forwardProxy resolves the host that the request asks for.
func (e *exchange) forwardProxy(d *Destination, c *cluster.Cluster) {
	host := e.sni
	if e.conn.HTTP != nil && e.readable() {
		host = e.conn.HTTP.Authority
	}
	d.Endpoints = []Endpoint{e.secured(c, nil, Endpoint{Address: host, Percent: 100})}
}

// secured adds how the connection to an endpoint is secured.
func (e *exchange) secured(c *cluster.Cluster, lb *endpoint.LbEndpoint, ep Endpoint) Endpoint {
	s, alpn, unknown := e.config.security(c, lb)
	if unknown != "" {
		e.hop.unknown("cluster " + c.GetName() + ": " + unknown)
	}
	if s.Mode == Plaintext && e.conn.TLS != nil && !e.readable() {
		s = &Security{Mode: TLS, SNI: e.conn.TLS.SNI, Passthrough: true}
		alpn = e.conn.TLS.ALPN
	}
	if names := c.GetMetadata().GetFilterMetadata()["istio"].GetFields()["alpn"].GetStringValue(); e.announces && names != "" {
		alpn = strings.Split(names, ",")
	}
	ep.Security, ep.ALPN = s, alpn
	return ep
}

func addressText(a *core.Address) string {
	if p := a.GetPipe(); p != nil {
		return "unix://" + p.GetPath()
	}
	s := a.GetSocketAddress()
	if at, ok := addrPort(s); ok {
		return at.String()
	}
	return fmt.Sprintf("%s:%d", s.GetAddress(), s.GetPortValue())
}

func localityText(l *core.Locality) string {
	out := l.GetRegion()
	if l.GetZone() != "" {
		out += "/" + l.GetZone()
	}
	if l.GetSubZone() != "" {
		out += "/" + l.GetSubZone()
	}
	return out
}
