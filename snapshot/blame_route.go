package snapshot

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// What Envoy's texts about a route table name a part of it by.
var (
	atHost  = regexp.MustCompile(`VirtualHosts\[(\d+)\]`)
	atRoute = regexp.MustCompile(`Routes\[(\d+)\]`)
	// quotedText are things in quotes, and the domain of a duplicate.
	quotedText = regexp.MustCompile(`'([^']{2,})'|"([^"]{2,})"|[Dd]omain (\S{2,}) in route`)
)

// sources are the objects that a rejection is told to: all that the resource
// was made of, or of a route table those whose part of it the text names.
func (r *rejection) sources(k kind) []*config.Meta {
	all := slices.Compact(slices.Clone(r.resource.Sources))
	if k != routes || len(all) < 2 {
		return all
	}
	table := &route.RouteConfiguration{}
	if proto.Unmarshal(r.resource.Bytes(), table) != nil {
		return all
	}
	paths := map[string]bool{}
	for _, part := range suspectRoutes(table, r.message) {
		if m := part.GetMetadata().GetFilterMetadata()["istio"]; m != nil {
			paths[m.GetFields()["config"].GetStringValue()] = true
		}
	}
	var out []*config.Meta
	found := false
	for _, m := range all {
		// A route does not say who patched it.
		patched := m.Kind == "EnvoyFilter"
		if paths[m.ConfigPath()] || patched {
			out = append(out, m)
		}
		found = found || paths[m.ConfigPath()]
	}
	if !found {
		return all
	}
	return out
}

// suspectRoutes are the routes that a text names by their places, or which hold
// what it quotes; the most telling of these.
func suspectRoutes(table *route.RouteConfiguration, text string) []*route.Route {
	if m := atHost.FindStringSubmatch(text); m != nil {
		return byPlace(table, m[1], atRoute.FindStringSubmatch(text))
	}
	var best []*route.Route
	for _, m := range quotedText.FindAllStringSubmatch(text, -1) {
		found := holding(table, []byte(m[1]+m[2]+m[3]))
		if len(found) > 0 && (best == nil || len(found) < len(best)) {
			best = found
		}
	}
	return best
}

func byPlace(table *route.RouteConfiguration, host string, in []string) []*route.Route {
	i, err := strconv.Atoi(host)
	if err != nil || i >= len(table.GetVirtualHosts()) {
		return nil
	}
	all := table.GetVirtualHosts()[i].GetRoutes()
	if in != nil {
		if j, err := strconv.Atoi(in[1]); err == nil && j < len(all) {
			return all[j : j+1]
		}
	}
	return all
}

// holding are the routes that have a text somewhere, or whose virtual host is
// called so or serves the domain.
func holding(table *route.RouteConfiguration, text []byte) []*route.Route {
	var out []*route.Route
	for _, vh := range table.GetVirtualHosts() {
		if vh.GetName() == string(text) || slices.Contains(vh.GetDomains(), string(text)) {
			out = append(out, vh.GetRoutes()...)
			continue
		}
		for _, r := range vh.GetRoutes() {
			if b, err := proto.Marshal(r); err == nil && bytes.Contains(b, text) {
				out = append(out, r)
			}
		}
	}
	return out
}
