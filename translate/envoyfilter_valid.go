package translate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// These are rules of Envoy's that its messages' own validation does not know, and
// that patches break most easily.

// distinctHosts: a table's virtual hosts have names and domains of their own.
func distinctHosts(rc *route.RouteConfiguration) error {
	names, domains := map[string]bool{}, map[string]bool{}
	for _, vh := range rc.GetVirtualHosts() {
		if names[vh.GetName()] {
			return fmt.Errorf("two virtual hosts are called %s", shown(vh.GetName()))
		}
		names[vh.GetName()] = true
		for _, d := range vh.GetDomains() {
			d = strings.ToLower(d)
			if domains[d] {
				return fmt.Errorf("domain %s is in two virtual hosts", shown(d))
			}
			domains[d] = true
		}
	}
	return nil
}

// terminals end a chain of network filters.
var terminals = []string{connectionManager, "envoy.filters.network.tcp_proxy"}

// orderedFilters: what ends a chain of filters is its last, and no two chains of
// a listener are for the same connections.
func orderedFilters(l *listener.Listener) error {
	if len(l.GetFilterChains()) == 0 && l.GetDefaultFilterChain() == nil && l.GetUdpListenerConfig() == nil {
		return errors.New("no filter chain is left; remove the LISTENER instead")
	}
	for _, f := range l.GetListenerFilters() {
		if f.GetConfigType() == nil {
			return fmt.Errorf("listener filter %s has no typed_config, by which Envoy knows what it is", shown(f.GetName()))
		}
	}
	matches := map[string]string{}
	for _, c := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
		if c == nil {
			continue
		}
		if c != l.GetDefaultFilterChain() {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.GetFilterChainMatch())
			if err != nil {
				return err
			}
			if other, ok := matches[string(b)]; ok && l.GetFilterChainMatcher() == nil {
				return fmt.Errorf("filter chains %s and %s match the same connections", shown(other), shown(c.GetName()))
			}
			matches[string(b)] = c.GetName()
		}
		for i, f := range c.GetFilters() {
			if f.GetConfigType() == nil {
				return fmt.Errorf("filter %s of chain %s has no typed_config, by which Envoy knows what it is", shown(f.GetName()), shown(c.GetName()))
			}
			if slices.Contains(terminals, f.GetName()) && i < len(c.GetFilters())-1 {
				return fmt.Errorf("filter %s of chain %s stands after %s, which ends the chain; insert before it", shown(c.GetFilters()[i+1].GetName()), shown(c.GetName()), f.GetName())
			}
			if err := orderedHTTPFilters(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func orderedHTTPFilters(f *listener.Filter) error {
	m := &hcm.HttpConnectionManager{}
	if f.GetName() != connectionManager || !f.GetTypedConfig().MessageIs(m) || f.GetTypedConfig().UnmarshalTo(m) != nil {
		return nil
	}
	last := len(m.GetHttpFilters()) - 1
	for i, h := range m.GetHttpFilters() {
		if h.GetConfigType() == nil {
			return fmt.Errorf("HTTP filter %s has no typed_config, by which Envoy knows what it is", shown(h.GetName()))
		}
		if h.GetName() == routerFilter && i < last {
			return fmt.Errorf("HTTP filter %s stands after %s, which ends the chain; insert before it", shown(m.GetHttpFilters()[i+1].GetName()), routerFilter)
		}
	}
	if rc := m.GetRouteConfig(); rc != nil {
		return distinctHosts(rc)
	}
	return nil
}
