package translate

import (
	"slices"
	"strings"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	networking "istio.io/api/networking/v1alpha3"
)

// The filters that carry HTTP.
const (
	connectionManager = hcmFilterName
	routerFilter      = "envoy.filters.http.router"
)

// oldNames are those that Envoy's filters once had; EnvoyFilters match on them.
var oldNames = map[string]string{
	"envoy.http_connection_manager": connectionManager, "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
	"envoy.mongo_proxy": "envoy.filters.network.mongo_proxy", "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
	"envoy.ratelimit": "envoy.filters.network.ratelimit",
	"envoy.router":    routerFilter, "envoy.cors": "envoy.filters.http.cors", "envoy.fault": "envoy.filters.http.fault",
	"envoy.lua": "envoy.filters.http.lua", "envoy.gzip": "envoy.filters.http.gzip", "envoy.buffer": "envoy.filters.http.buffer",
	"envoy.csrf": "envoy.filters.http.csrf", "envoy.ext_authz": "envoy.filters.http.ext_authz", "envoy.rate_limit": "envoy.filters.http.ratelimit",
	"envoy.grpc_web": "envoy.filters.http.grpc_web", "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
	"envoy.health_check": "envoy.filters.http.health_check", "envoy.ip_tagging": "envoy.filters.http.ip_tagging",
	"envoy.listener.tls_inspector": "envoy.filters.listener.tls_inspector", "envoy.listener.http_inspector": "envoy.filters.listener.http_inspector",
	"envoy.listener.original_dst": "envoy.filters.listener.original_dst", "envoy.listener.original_src": "envoy.filters.listener.original_src",
	"envoy.listener.proxy_protocol": "envoy.filters.listener.proxy_protocol",
}

// istioFilters are filters of Istio's own build of Envoy, which others lack: what
// is inserted beside one goes where it would be, in front (true), or before what
// ends the chain.
var istioFilters = map[string]bool{
	"istio.metadata_exchange": true, "istio_authn": true, "istio.stats": false, "istio.alpn": false,
}

// patchListener implements patchable.apply.
func patchListener(s *Scope, m proto.Message, p *patch) (matched, removed bool, err error) {
	l, _ := m.(*listener.Listener)
	match := p.spec.GetMatch().GetListener()
	to := p.spec.GetApplyTo()
	if p.spec.GetMatch().GetRouteConfiguration() == nil && !listenerMatches(l, p, to == networking.EnvoyFilter_LISTENER) {
		return false, false, nil
	}
	switch to {
	case networking.EnvoyFilter_LISTENER:
		if p.operation() == networking.EnvoyFilter_Patch_REMOVE {
			return true, true, nil
		}
		return true, false, p.merge(l, p.value)
	case networking.EnvoyFilter_LISTENER_FILTER:
		l.ListenerFilters, matched, err = editList(l.GetListenerFilters(), p, (*listener.ListenerFilter).GetName, match.GetListenerFilter(), -1)
	case networking.EnvoyFilter_FILTER_CHAIN:
		matched, err = patchChains(l, p)
	default:
		for _, c := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
			if c == nil || !chainMatches(l, c, p) {
				continue
			}
			in, fault := patchFilters(s, c, p)
			if matched = matched || in; fault != nil {
				return true, false, fault
			}
		}
	}
	return matched, false, err
}

// shared are the listeners that take the connections of many ports: a port
// number means those of their chains that are for the port.
func shared(l *listener.Listener) bool {
	return l.GetName() == VirtualInboundListener || l.GetName() == VirtualOutboundListener
}

func listenerMatches(l *listener.Listener, p *patch, whole bool) bool {
	m := p.spec.GetMatch().GetListener()
	if m.GetName() != "" && m.GetName() != l.GetName() {
		return false
	}
	return !whole && shared(l) || p.forPort(l.GetAddress().GetSocketAddress().GetPortValue())
}

// forPort reports whether a port has the number and the name that a patch of
// listeners asks for.
func (p *patch) forPort(port uint32) bool {
	m := p.spec.GetMatch().GetListener()
	return (m.GetPortNumber() == 0 || m.GetPortNumber() == port) && (m.GetPortName() == "" || p.ports[port])
}

// portsNamed are the ports of listeners at which what arrives is for a port of
// that name, in any case: of a Service, a Sidecar's listener or a Gateway's server.
func (s *Scope) portsNamed(name string) map[uint32]bool {
	out := map[uint32]bool{}
	add := func(port uint32, names ...string) {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			out[port] = true
		}
	}
	switch s.Class.Side {
	case Inbound:
		for i := range s.Inbound {
			add(s.Inbound[i].Port, s.Inbound[i].ServicePort.Name, s.Inbound[i].Ingress.GetPort().GetName())
		}
	case GatewaySide:
		for i := range s.Gateways {
			for _, v := range s.Gateways[i].Servers {
				add(s.Gateways[i].Port, v.Spec.GetPort().GetName())
			}
		}
	default:
		for _, e := range s.Egress {
			for _, v := range e.Services {
				for j := range v.InReach {
					add(v.InReach[j].Number, v.InReach[j].Name)
				}
			}
		}
	}
	return out
}

// chainMatches: where one listener takes the traffic of many ports, a port
// number means the chain's.
func chainMatches(l *listener.Listener, c *listener.FilterChain, p *patch) bool {
	m := p.spec.GetMatch().GetListener()
	of := c.GetFilterChainMatch()
	if shared(l) && !p.forPort(of.GetDestinationPort().GetValue()) {
		return false
	}
	f := m.GetFilterChain()
	switch {
	case f.GetName() != "" && f.GetName() != c.GetName():
		return false
	case f.GetSni() != "" && !slices.Contains(of.GetServerNames(), f.GetSni()):
		return false
	case f.GetTransportProtocol() != "" && f.GetTransportProtocol() != of.GetTransportProtocol():
		return false
	case f.GetDestinationPort() != 0 && f.GetDestinationPort() != of.GetDestinationPort().GetValue():
		return false
	}
	return f.GetApplicationProtocols() == "" || !slices.ContainsFunc(strings.Split(f.GetApplicationProtocols(), ","), func(a string) bool {
		return !slices.Contains(of.GetApplicationProtocols(), strings.TrimSpace(a))
	})
}

func patchChains(l *listener.Listener, p *patch) (matched bool, err error) {
	if p.adds() {
		c, _ := proto.Clone(p.value).(*listener.FilterChain)
		l.FilterChains = append(l.FilterChains, c)
		return true, nil
	}
	change := func(c *listener.FilterChain) (keep bool) {
		if !chainMatches(l, c, p) {
			return true
		}
		matched = true
		if p.operation() == networking.EnvoyFilter_Patch_REMOVE {
			return false
		}
		if fault := p.merge(c, p.value); fault != nil {
			err = fault
		}
		return true
	}
	kept := l.FilterChains[:0:0]
	for _, c := range l.GetFilterChains() {
		if change(c) {
			kept = append(kept, c)
		}
	}
	l.FilterChains = kept
	if c := l.GetDefaultFilterChain(); c != nil && !change(c) {
		l.DefaultFilterChain = nil
	}
	return matched, err
}

// patchFilters applies a patch of network filters, of HTTP filters, or of the
// routes that a filter carries.
func patchFilters(s *Scope, c *listener.FilterChain, p *patch) (matched bool, err error) {
	anchor := p.spec.GetMatch().GetListener().GetFilterChain().GetFilter()
	if p.spec.GetApplyTo() == networking.EnvoyFilter_NETWORK_FILTER {
		end := len(c.GetFilters())
		if end > 0 {
			end-- // the last one is terminal
		}
		c.Filters, matched, err = editList(c.GetFilters(), p, (*listener.Filter).GetName, anchor.GetName(), end)
		return matched, err
	}
	for _, f := range c.GetFilters() {
		if f.GetName() != connectionManager || anchor.GetName() != "" && presentName(anchor.GetName()) != connectionManager {
			continue
		}
		m := &hcm.HttpConnectionManager{}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			return false, err
		}
		in := false
		if p.spec.GetApplyTo() == networking.EnvoyFilter_HTTP_FILTER {
			sub := anchor.GetSubFilter().GetName()
			m.HttpFilters, in, err = editList(m.GetHttpFilters(), p, (*hcm.HttpFilter).GetName, sub, classPlace(m.GetHttpFilters(), p.spec.GetPatch().GetFilterClass()))
		} else if rc := m.GetRouteConfig(); rc != nil {
			in, _, err = patchRoutes(s, rc, p)
		}
		if err != nil {
			return true, err
		}
		if in {
			matched = true
			a, err := anypb.New(m)
			if err != nil {
				return true, err
			}
			f.ConfigType = &listener.Filter_TypedConfig{TypedConfig: a}
		}
	}
	return matched, nil
}

func presentName(filter string) string {
	if now := oldNames[filter]; now != "" {
		return now
	}
	return filter
}

// classPlace is where ADD puts an HTTP filter of a class
// (networking/v1alpha3 EnvoyFilter.Patch.FilterClass): authentication after
// that of the mesh, authorization after that of the mesh, statistics before
// that of the mesh, anything else before the router, which ends every chain.
func classPlace(filters []*hcm.HttpFilter, class networking.EnvoyFilter_Patch_FilterClass) int {
	after := func(names ...string) int {
		for i := len(filters) - 1; i >= 0; i-- {
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(filters[i].GetName(), n) }) {
				return i + 1
			}
		}
		return 0
	}
	const tokens, rules, extern, stats = "envoy.filters.http.jwt_authn", "envoy.filters.http.rbac", "envoy.filters.http.ext_authz", "istio.stats"
	switch class {
	case networking.EnvoyFilter_Patch_AUTHN:
		return after(tokens)
	case networking.EnvoyFilter_Patch_AUTHZ:
		return after(tokens, rules, extern)
	}
	for i, f := range filters {
		if f.GetName() == routerFilter || class == networking.EnvoyFilter_Patch_STATS && f.GetName() == stats {
			return i
		}
	}
	return len(filters)
}

// editList applies a patch to a list of named things. anchor is the name that
// the patch's match gives, end where ADD puts things (-1: at the end).
func editList[T interface {
	comparable
	proto.Message
}](list []T, p *patch, nameOf func(T) string, anchor string, end int) (out []T, matched bool, err error) {
	value, _ := p.value.(T)
	var none T
	if value != none {
		value = proto.Clone(value).(T)
	}
	if end < 0 {
		end = len(list)
	}
	is := func(e T) bool { return nameOf(e) == anchor || nameOf(e) == presentName(anchor) }
	at := slices.IndexFunc(list, is)
	list = slices.Clone(list)
	switch p.operation() {
	case networking.EnvoyFilter_Patch_ADD:
		return slices.Insert(list, end, value), true, nil
	case networking.EnvoyFilter_Patch_INSERT_FIRST:
		return slices.Insert(list, 0, value), true, nil
	case networking.EnvoyFilter_Patch_INSERT_BEFORE:
		if anchor == "" {
			at = 0
		}
	case networking.EnvoyFilter_Patch_INSERT_AFTER:
		if anchor == "" {
			at = end
		} else if at >= 0 {
			at++
		}
	}
	if front, istios := istioFilters[anchor]; at < 0 && istios {
		switch o := p.operation(); {
		case o != networking.EnvoyFilter_Patch_INSERT_BEFORE && o != networking.EnvoyFilter_Patch_INSERT_AFTER:
		case front:
			at = 0
		default:
			at = end
		}
	}
	if at < 0 {
		return list, false, nil
	}
	switch p.operation() {
	case networking.EnvoyFilter_Patch_INSERT_BEFORE, networking.EnvoyFilter_Patch_INSERT_AFTER:
		return slices.Insert(list, at, value), true, nil
	case networking.EnvoyFilter_Patch_REMOVE:
		return slices.DeleteFunc(list, is), true, nil
	case networking.EnvoyFilter_Patch_REPLACE:
		list[at] = value
		return list, true, nil
	}
	for _, e := range list {
		if is(e) {
			if err := p.merge(e, value); err != nil {
				return list, true, err
			}
		}
	}
	return list, true, nil
}
