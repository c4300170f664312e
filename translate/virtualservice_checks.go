package translate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

func checkVirtualService(r *Report, m proto.Message) {
	vs := m.(*networking.VirtualService)
	if len(vs.GetHosts()) == 0 {
		checkDelegateObject(r, vs)
	}
	if len(vs.GetHttp())+len(vs.GetTls())+len(vs.GetTcp()) == 0 {
		r.Errorf("RouteRequired", "has no route: want at least one of http, tls and tcp")
	}
	checkHosts(r, vs)
	checkExportTo(r, vs.GetExportTo(), exportRules{noOne: true})
	if !forGateways(vs) {
		checkClaimsAtMesh(r, vs)
	}
	for i, t := range vs.GetTls() {
		for j, match := range t.GetMatch() {
			checkSNIHosts(r, vs, fmt.Sprintf("tls[%d].match[%d]", i, j), match)
		}
	}
	checkShadowing(r, vs)
}

// checkDelegateObject tests a VirtualService without hosts: it only lends its
// http rules to others.
func checkDelegateObject(r *Report, vs *networking.VirtualService) {
	for _, f := range []struct {
		name string
		n    int
	}{{"gateways", len(vs.GetGateways())}, {"tls", len(vs.GetTls())}, {"tcp", len(vs.GetTcp())}} {
		if f.n > 0 {
			r.ErrorAt(f.name, "DelegateInvalid",
				"is set in a VirtualService without hosts, which can only be a delegate; remove it, or name hosts")
		}
	}
	for i, h := range vs.GetHttp() {
		if h.GetDelegate() != nil {
			r.ErrorAt(fmt.Sprintf("http[%d].delegate", i), "DelegateInvalid",
				"is in a delegate itself (a VirtualService without hosts); delegates do not nest")
		}
	}
}

// forGateways reports whether a VirtualService is for gateways alone.
func forGateways(vs *networking.VirtualService) bool {
	return len(vs.GetGateways()) > 0 && !slices.Contains(vs.GetGateways(), meshGateway)
}

func checkHosts(r *Report, vs *networking.VirtualService) {
	var sound []string
	for i, h := range vs.GetHosts() {
		at := fmt.Sprintf("hosts[%d]", i)
		if fault := ownHostFault(h, vs); fault != "" {
			r.ErrorAt(at, "HostInvalid", "%s", fault)
			continue
		}
		name := strings.TrimSuffix(strings.ToLower(h), ".")
		for _, earlier := range sound[:min(len(sound), maxPairs)] {
			if _, overlap := meet(earlier, name); overlap {
				r.ErrorAt(at, "HostDuplicate", "is %s, which overlaps with %s before it; leave only one", shown(h), shown(earlier))
				break
			}
		}
		sound = append(sound, name)
	}
}

// ownHostFault says what is wrong with one of a VirtualService's hosts.
func ownHostFault(h string, vs *networking.VirtualService) string {
	switch {
	case h == "*" && !forGateways(vs):
		return `is "*", which sidecars cannot tell from any other host; name the hosts, or bind to gateways only`
	case isAddress(h):
		return ""
	case hasPort(h):
		return "is " + shown(h) + ": a host has no port here; test it with http.match.port"
	}
	return vsHostFault(h)
}

// maxPairs bounds comparisons of everything with everything.
const maxPairs = 1000

// vsHostFault is hostFault for hosts that may also be the SNI of mesh mTLS,
// such as outbound_.80_._.reviews.shop.svc.cluster.local.
func vsHostFault(h string) string {
	if h == "*" {
		return ""
	}
	if rest, ok := strings.CutPrefix(h, "outbound_."); ok {
		parts := strings.SplitN(rest, ".", 3)
		if len(parts) == 3 {
			return hostFault(parts[2], true)
		}
	}
	return hostFault(h, true)
}

func hasPort(h string) bool {
	_, port, ok := strings.Cut(h, ":")
	return ok && port != "" && strings.Trim(port, "0123456789") == ""
}

func checkClaimsAtMesh(r *Report, vs *networking.VirtualService) {
	for i, h := range vs.GetHttp() {
		for j, m := range h.GetMatch() {
			for _, headers := range []struct {
				field string
				names map[string]*networking.StringMatch
			}{{"headers", m.GetHeaders()}, {"withoutHeaders", m.GetWithoutHeaders()}} {
				for _, name := range sortedKeys(headers.names) {
					if claimPath(name) != nil {
						r.ErrorAt(fmt.Sprintf("http[%d].match[%d].%s", i, j, headers.field), "ClaimAtMesh",
							"tests %s, but claims are only known at gateways; bind the VirtualService to gateways, without mesh", shown(name))
					}
				}
			}
		}
	}
}

func checkHTTPRoute(r *Report, m proto.Message) {
	h := m.(*networking.HTTPRoute)
	checkOneAction(r, h)
	checkWeights(r, len(h.GetRoute()), func(i int) int32 { return h.GetRoute()[i].GetWeight() })
	if h.GetMirror() != nil && len(h.GetMirrors()) > 0 {
		r.ErrorAt("mirrors", "Conflict", "is set, and so is mirror; leave only one")
	}
	share := h.GetMirrorPercentage() != nil || h.GetMirrorPercent() != nil //nolint:staticcheck // the old field still counts
	if h.GetMirror() == nil && share {
		r.WarnAt("mirrorPercentage", "NoEffect", "says how much to mirror, but mirror says nowhere to; mirrors have a percentage each")
	}
	checkAuthorityOnce(r, h)
	checkPrefixUse(r, h)
	if t, each := h.GetTimeout(), h.GetRetries().GetPerTryTimeout(); t != nil && each != nil &&
		t.AsDuration() > 0 && each.AsDuration() > t.AsDuration() {
		r.WarnAt("retries.perTryTimeout", "NoEffect", "is %s, longer than the %s that all tries together have", each.AsDuration(), t.AsDuration())
	}
}

// checkOneAction wants one thing to be done with a request.
func checkOneAction(r *Report, h *networking.HTTPRoute) {
	if h.GetDelegate() != nil {
		if h.GetRedirect() != nil || len(h.GetRoute()) > 0 {
			r.ErrorAt("delegate", "Conflict", "is set beside route or redirect; the delegate's rules say where requests go")
		}
		return
	}
	answer := ""
	switch {
	case h.GetRedirect() != nil:
		answer = "redirect"
	case h.GetDirectResponse() != nil:
		answer = "directResponse"
	case len(h.GetRoute()) == 0:
		r.Errorf("RouteRequired", "says nothing to do: want one of route, redirect, directResponse and delegate")
		return
	default:
		return
	}
	for _, other := range []struct {
		field string
		set   bool
	}{
		{"route", len(h.GetRoute()) > 0}, {"fault", h.GetFault() != nil}, {"rewrite", h.GetRewrite() != nil},
		{"directResponse", h.GetDirectResponse() != nil && answer == "redirect"},
	} {
		if other.set {
			r.ErrorAt(other.field, "Conflict", "is set beside %s, which answers the request itself; leave only one", answer)
		}
	}
}

// checkWeights wants destinations to share out something. Envoy adds the
// weights up in 32 bits.
func checkWeights(r *Report, n int, weight func(int) int32) {
	if n < 2 {
		return
	}
	var sum int64
	for i := range n {
		sum += int64(max(weight(i), 0))
	}
	switch {
	case sum == 0:
		r.ErrorAt("route", "WeightInvalid", "has %d destinations whose weights are all 0; give the one that is meant a weight", n)
	case sum > math.MaxUint32:
		r.ErrorAt("route", "WeightInvalid", "has weights that add up to %d; want at most %d", sum, uint32(math.MaxUint32))
	}
}

// checkAuthorityOnce wants the Host header to be replaced in one place.
func checkAuthorityOnce(r *Report, h *networking.HTTPRoute) {
	var places []string
	if h.GetRewrite().GetAuthority() != "" {
		places = append(places, "rewrite.authority")
	}
	for _, ops := range []struct {
		field  string
		values map[string]string
	}{{"headers.request.set", h.GetHeaders().GetRequest().GetSet()}, {"headers.request.add", h.GetHeaders().GetRequest().GetAdd()}} {
		for _, name := range sortedKeys(ops.values) {
			if isAuthorityHeader(name) {
				places = append(places, ops.field+"["+name+"]")
			}
		}
	}
	if len(places) > 1 {
		r.Errorf("Conflict", "sets the Host header in several places (%s); leave only one", strings.Join(places, ", "))
	}
}

// checkPrefixUse tests what depends on the kind of path that was matched.
func checkPrefixUse(r *Report, h *networking.HTTPRoute) {
	byPrefix := h.GetRedirect().GetPrefixRewrite() != "" || strings.HasPrefix(h.GetRedirect().GetUri(), prefixToken)
	for i, m := range h.GetMatch() {
		uri := m.GetUri()
		_, isPrefix := uri.GetMatchType().(*networking.StringMatch_Prefix)
		if byPrefix && uri != nil && !isPrefix {
			r.ErrorAt("redirect", "Conflict", "replaces a prefix, but match[%d].uri is no prefix; match by prefix or redirect to a uri", i)
		}
		to, from := h.GetRewrite().GetUri(), uri.GetPrefix()
		if from != "" && from != "/" && !strings.HasSuffix(from, "/") && to != "" && strings.HasSuffix(to, "/") {
			r.WarnAt("rewrite.uri", "DoubleSlash",
				"is %s in place of the prefix %s, so %s/x becomes %s/x; match %s/ as well, before it", shown(to), shown(from), from, to, from)
		}
	}
}

func checkTLSRoute(r *Report, m proto.Message) {
	t := m.(*networking.TLSRoute)
	if len(t.GetMatch()) == 0 {
		r.ErrorAt("match", "Required", "is missing: a tls rule is chosen by sniHosts")
	}
	if len(t.GetRoute()) == 0 {
		r.ErrorAt("route", "Required", "is missing: name at least one destination")
	}
	checkWeights(r, len(t.GetRoute()), func(i int) int32 { return t.GetRoute()[i].GetWeight() })
}

func checkTCPRoute(r *Report, m proto.Message) {
	t := m.(*networking.TCPRoute)
	if len(t.GetRoute()) == 0 {
		r.ErrorAt("route", "Required", "is missing: name at least one destination")
	}
	checkWeights(r, len(t.GetRoute()), func(i int) int32 { return t.GetRoute()[i].GetWeight() })
}

func checkRouteDestination(r *Report, m proto.Message) {
	if m.(*networking.RouteDestination).GetDestination() == nil {
		r.ErrorAt("destination", "Required", "is missing: name a host")
	}
}

func checkHTTPDestination(r *Report, m proto.Message) {
	if m.(*networking.HTTPRouteDestination).GetDestination() == nil {
		r.ErrorAt("destination", "Required", "is missing: name a host")
	}
}

func checkDestination(r *Report, m proto.Message) {
	host := m.(*networking.Destination).GetHost()
	switch {
	case host == "*":
		r.ErrorAt("host", "HostInvalid", `is "*"; a destination is one service`)
	case hasPort(host):
		r.ErrorAt("host", "HostInvalid", "is %s: a host has no port here; write destination.port.number", shown(host))
	case isAddress(host):
	default:
		if fault := hostFault(host, true); fault != "" {
			r.ErrorAt("host", "HostInvalid", "%s", fault)
		}
	}
}
