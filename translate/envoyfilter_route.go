package translate

import (
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
		if p.operation() != networking.EnvoyFilter_Patch_MERGE {
			return false, false, nil
		}
		return true, false, mergeMessage(rc.ProtoReflect(), proto.Clone(p.value).ProtoReflect())
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
	if p.operation() == networking.EnvoyFilter_Patch_ADD {
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
		if p.operation() == networking.EnvoyFilter_Patch_MERGE {
			kept = append(kept, vh)
			if err := mergeMessage(vh.ProtoReflect(), proto.Clone(p.value).ProtoReflect()); err != nil {
				return true, err
			}
		}
	}
	rc.VirtualHosts = kept
	return matched, nil
}

// patchRules applies a patch to the routes of a virtual host: to each that
// matches, or beside the first that does.
func patchRules(vh *route.VirtualHost, p *patch) (matched bool, err error) {
	match := p.spec.GetMatch().GetRouteConfiguration().GetVhost().GetRoute()
	at := slices.IndexFunc(vh.GetRoutes(), func(r *route.Route) bool { return ruleMatches(r, match) })
	value, _ := p.value.(*route.Route)
	if value != nil {
		value = proto.Clone(value).(*route.Route)
	}
	switch p.operation() {
	case networking.EnvoyFilter_Patch_ADD:
		vh.Routes = append(vh.Routes, value)
		return true, nil
	case networking.EnvoyFilter_Patch_INSERT_FIRST:
		vh.Routes = slices.Insert(vh.Routes, 0, value)
		return true, nil
	}
	if at < 0 {
		return false, nil
	}
	switch p.operation() {
	case networking.EnvoyFilter_Patch_INSERT_BEFORE:
		vh.Routes = slices.Insert(vh.Routes, at, value)
	case networking.EnvoyFilter_Patch_INSERT_AFTER:
		vh.Routes = slices.Insert(vh.Routes, at+1, value)
	case networking.EnvoyFilter_Patch_REMOVE:
		vh.Routes = slices.DeleteFunc(vh.Routes, func(r *route.Route) bool { return ruleMatches(r, match) })
	default:
		for _, r := range vh.GetRoutes() {
			if ruleMatches(r, match) {
				if err := mergeMessage(r.ProtoReflect(), proto.Clone(value).ProtoReflect()); err != nil {
					return true, err
				}
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
	if !clusterMatches(c.GetName(), p.spec.GetMatch().GetCluster()) {
		return false, false, nil
	}
	if p.operation() == networking.EnvoyFilter_Patch_REMOVE {
		return true, true, nil
	}
	spellOut(c)
	return true, false, mergeMessage(c.ProtoReflect(), proto.Clone(p.value).ProtoReflect())
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

// clusterMatches reads a cluster's name: direction, port, subset and host.
func clusterMatches(name string, m *networking.EnvoyFilter_ClusterMatch) bool {
	if m.GetName() != "" {
		return m.GetName() == name
	}
	if m.GetPortNumber() == 0 && m.GetService() == "" && m.GetSubset() == "" {
		return true
	}
	parts := strings.Split(name, "|")
	if len(parts) != 4 {
		return false
	}
	return (m.GetPortNumber() == 0 || strconv.FormatUint(uint64(m.GetPortNumber()), 10) == parts[1]) &&
		(m.GetSubset() == "" || m.GetSubset() == parts[2]) &&
		(m.GetService() == "" || m.GetService() == parts[3])
}
