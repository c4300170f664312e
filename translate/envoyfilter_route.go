package translate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	networking "istio.io/api/networking/v1alpha3"
)

// patchRoutes implements patchable.apply; it takes no route table away.
func patchRoutes(s *Scope, m proto.Message, p *patch) (matched, _ bool, err error) {
	rc, _ := m.(*route.RouteConfiguration)
	match := p.spec.GetMatch().GetRouteConfiguration()
	if !s.routesMatch(rc.GetName(), match) {
		return false, false, nil
	}
	switch p.spec.GetApplyTo() {
	case networking.EnvoyFilter_ROUTE_CONFIGURATION:
		if !p.merges() {
			return false, false, nil
		}
		return true, false, p.merge(rc, p.value)
	case networking.EnvoyFilter_VIRTUAL_HOST:
		matched, err = patchHosts(rc, p)
	case networking.EnvoyFilter_HTTP_ROUTE:
		for _, vh := range rc.GetVirtualHosts() {
			if !hostMatches(vh, match.GetVhost()) {
				continue
			}
			in, fault := patchRules(vh, p)
			if matched = matched || in; fault != nil {
				return true, false, fault
			}
		}
	}
	return matched, false, err
}

// routesMatch tests a route table's name, and what the name says.
func (s *Scope) routesMatch(name string, m *networking.EnvoyFilter_RouteConfigurationMatch) bool {
	port, portName, gateway := s.routeTable(name)
	switch {
	case m.GetName() != "" && m.GetName() != name,
		m.GetPortNumber() != 0 && m.GetPortNumber() != port,
		m.GetPortName() != "" && s.Class.Side == GatewaySide && m.GetPortName() != portName:
		return false
	}
	return m.GetGateway() == "" || slices.Contains(gateway, m.GetGateway())
}

// routeTable reads a route table's name: its port, and on gateways the port's
// name and the Gateways that it serves.
func (s *Scope) routeTable(name string) (port uint32, portName string, gateways []string) {
	number := func(text string) uint32 {
		n, _ := strconv.ParseUint(text, 10, 16)
		return uint32(n)
	}
	if s.Class.Side == GatewaySide {
		for i := range s.Gateways {
			for _, g := range s.Gateways[i].Servers {
				if g.Route == name {
					port, portName = g.Spec.GetPort().GetNumber(), g.Spec.GetPort().GetName()
					gateways = append(gateways, g.Gateway.Namespace+"/"+g.Gateway.Name)
				}
			}
		}
		return port, portName, gateways
	}
	if in, ok := strings.CutPrefix(name, "inbound|"); ok {
		text, _, _ := strings.Cut(in, "|")
		return number(text), "", nil
	}
	return number(name[strings.LastIndexByte(name, ':')+1:]), "", nil
}

func hostMatches(vh *route.VirtualHost, m *networking.EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch) bool {
	return (m.GetName() == "" || m.GetName() == vh.GetName()) &&
		(m.GetDomainName() == "" || slices.Contains(vh.GetDomains(), m.GetDomainName()))
}

func patchHosts(rc *route.RouteConfiguration, p *patch) (matched bool, err error) {
	if p.adds() {
		vh, _ := proto.Clone(p.value).(*route.VirtualHost)
		rc.VirtualHosts = append(rc.VirtualHosts, vh)
		return true, nil
	}
	kept := rc.VirtualHosts[:0:0]
	for _, vh := range rc.GetVirtualHosts() {
		if !hostMatches(vh, p.spec.GetMatch().GetRouteConfiguration().GetVhost()) {
			kept = append(kept, vh)
			continue
		}
		matched = true
		switch {
		case p.merges():
			kept = append(kept, vh)
			if err := p.merge(vh, p.value); err != nil {
				return true, err
			}
		case p.operation() == networking.EnvoyFilter_Patch_REPLACE:
			next, _ := proto.Clone(p.value).(*route.VirtualHost)
			kept = append(kept, next)
		}
	}
	rc.VirtualHosts = kept
	return matched, nil
}

// patchRules applies a patch to the routes of a virtual host: to each that
// matches, or beside the first that does.
func patchRules(vh *route.VirtualHost, p *patch) (matched bool, err error) {
	match := p.spec.GetMatch().GetRouteConfiguration().GetVhost().GetRoute()
	is := func(r *route.Route) bool { return ruleMatches(r, match) }
	at := slices.IndexFunc(vh.GetRoutes(), is)
	value, _ := p.value.(*route.Route)
	if value != nil {
		value = proto.Clone(value).(*route.Route)
	}
	insert := func(at int) (bool, error) {
		vh.Routes = slices.Insert(vh.Routes, at, value)
		return true, nil
	}
	switch o := p.operation(); {
	case o == networking.EnvoyFilter_Patch_ADD, o == networking.EnvoyFilter_Patch_INSERT_AFTER && match == nil:
		return insert(len(vh.GetRoutes()))
	case match == nil && (o == networking.EnvoyFilter_Patch_INSERT_FIRST || o == networking.EnvoyFilter_Patch_INSERT_BEFORE):
		return insert(0)
	case at < 0:
		return false, nil
	case o == networking.EnvoyFilter_Patch_INSERT_FIRST:
		return insert(0)
	case o == networking.EnvoyFilter_Patch_INSERT_BEFORE:
		return insert(at)
	case o == networking.EnvoyFilter_Patch_INSERT_AFTER:
		return insert(at + 1)
	case o == networking.EnvoyFilter_Patch_REMOVE:
		vh.Routes = slices.DeleteFunc(vh.Routes, is)
		return true, nil
	}
	for _, r := range vh.GetRoutes() {
		if is(r) {
			if err := p.merge(r, value); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

func ruleMatches(r *route.Route, m *networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch) bool {
	if m.GetName() != "" && m.GetName() != r.GetName() {
		return false
	}
	switch m.GetAction() {
	case networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_ROUTE:
		return r.GetRoute() != nil
	case networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_REDIRECT:
		return r.GetRedirect() != nil
	case networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_DIRECT_RESPONSE:
		return r.GetDirectResponse() != nil
	}
	return true
}

// patchCluster implements patchable.apply.
func patchCluster(_ *Scope, m proto.Message, p *patch) (matched, removed bool, err error) {
	c, _ := m.(*cluster.Cluster)
	if !clusterMatches(c, p.spec.GetMatch().GetCluster()) {
		return false, false, nil
	}
	if p.operation() == networking.EnvoyFilter_Patch_REMOVE {
		return true, true, nil
	}
	spellOut(c)
	value, _ := proto.Clone(p.value).(*cluster.Cluster)
	if over := value.GetTransportSocket(); over != nil && len(c.GetTransportSocketMatches()) > 0 {
		// What chooses among several sockets leaves the cluster's own unused: the
		// patch is for the one of its kind.
		value.TransportSocket = nil
		found := false
		for _, t := range c.GetTransportSocketMatches() {
			if t.GetTransportSocket().GetName() == over.GetName() {
				found = true
				if err := p.merge(t.GetTransportSocket(), over); err != nil {
					return true, false, err
				}
			}
		}
		if !found {
			return true, false, fmt.Errorf("transport_socket is %s, but the cluster chooses among others (transport_socket_matches)", shown(over.GetName()))
		}
	}
	return true, false, p.merge(c, value)
}

// spellOut gives a cluster what Envoy takes for granted and patches may count
// on: a merged name leaves its endpoints what they were, and a merged transport
// socket or match is not for the endpoints that take plaintext.
func spellOut(c *cluster.Cluster) {
	if c.GetType() == cluster.Cluster_EDS && c.GetEdsClusterConfig().GetServiceName() == "" {
		c.EdsClusterConfig.ServiceName = c.GetName()
	}
	m := c.GetTransportSocketMatches()
	if len(m) == 1 && m[0].GetName() == meshTLSMatch {
		plain := c.GetTransportSocket()
		if plain == nil {
			plain = rawTransport()
		}
		c.TransportSocketMatches = append(m, &cluster.Cluster_TransportSocketMatch{
			Name: plaintextMatch, Match: &structpb.Struct{}, TransportSocket: plain,
		})
	}
}

// clusterMatches reads a cluster's name: direction, port, subset and host. The
// hosts of an inbound one stand in its metadata.
func clusterMatches(c *cluster.Cluster, m *networking.EnvoyFilter_ClusterMatch) bool {
	if m.GetName() != "" {
		return m.GetName() == c.GetName()
	}
	if m.GetPortNumber() == 0 && m.GetService() == "" && m.GetSubset() == "" {
		return true
	}
	parts := strings.Split(c.GetName(), "|")
	if len(parts) != 4 {
		return false
	}
	return (m.GetPortNumber() == 0 || strconv.FormatUint(uint64(m.GetPortNumber()), 10) == parts[1]) &&
		(m.GetSubset() == "" || m.GetSubset() == parts[2]) &&
		(m.GetService() == "" || m.GetService() == parts[3] || parts[0] == "inbound" && servesHost(c, m.GetService()))
}

func servesHost(c *cluster.Cluster, host string) bool {
	services := c.GetMetadata().GetFilterMetadata()[provenanceFilter].GetFields()["services"].GetListValue().GetValues()
	return slices.ContainsFunc(services, func(v *structpb.Value) bool {
		return v.GetStructValue().GetFields()["host"].GetStringValue() == host
	})
}
