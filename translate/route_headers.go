package translate

import (
	"maps"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// headerChanges are Headers in Envoy's terms.
type headerChanges struct {
	requestAdd, responseAdd       []*core.HeaderValueOption
	requestRemove, responseRemove []string
}

func headerChangesOf(h *networking.Headers) headerChanges {
	return headerChanges{
		requestAdd:     headersToAdd(h.GetRequest()),
		responseAdd:    headersToAdd(h.GetResponse()),
		requestRemove:  headersToRemove(h.GetRequest()),
		responseRemove: headersToRemove(h.GetResponse()),
	}
}

func addHeaderChanges(made *route.Route, h *networking.Headers) {
	if h == nil {
		return
	}
	c := headerChangesOf(h)
	made.RequestHeadersToAdd, made.RequestHeadersToRemove = c.requestAdd, c.requestRemove
	made.ResponseHeadersToAdd, made.ResponseHeadersToRemove = c.responseAdd, c.responseRemove
}

// headersToAdd are the headers to set, which replace what is there, then
// those to add, which are appended to it.
func headersToAdd(ops *networking.Headers_HeaderOperations) []*core.HeaderValueOption {
	var out []*core.HeaderValueOption
	for _, part := range []struct {
		values map[string]string
		action core.HeaderValueOption_HeaderAppendAction
	}{
		{ops.GetSet(), core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
		{ops.GetAdd(), core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD},
	} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			if isInternalHeader(name) {
				continue
			}
			out = append(out, &core.HeaderValueOption{
				Header: &core.HeaderValue{Key: name, Value: part.values[name]}, AppendAction: part.action,
			})
		}
	}
	return out
}

func headersToRemove(ops *networking.Headers_HeaderOperations) []string {
	var out []string
	for _, name := range ops.GetRemove() {
		if !isInternalHeader(name) {
			out = append(out, name)
		}
	}
	return out
}

// isInternalHeader reports whether Envoy lets no route change a header: the
// pseudo headers and Host.
func isInternalHeader(name string) bool {
	return strings.HasPrefix(name, ":") || strings.EqualFold(name, "host")
}

func isAuthorityHeader(name string) bool {
	return strings.EqualFold(name, ":authority") || strings.EqualFold(name, "host")
}

// authorityOf is the value to which Headers set the request's Host; "set"
// goes before "add".
func authorityOf(h *networking.Headers) string {
	for _, values := range []map[string]string{h.GetRequest().GetSet(), h.GetRequest().GetAdd()} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if isAuthorityHeader(name) {
				return values[name]
			}
		}
	}
	return ""
}
