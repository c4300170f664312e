package translate

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

func checkHTTPMatch(r *Report, m proto.Message) {
	match := m.(*networking.HTTPMatchRequest)
	checkURI(r, match)
	for _, f := range []struct {
		field string
		m     *networking.StringMatch
	}{{"scheme", match.GetScheme()}, {"method", match.GetMethod()}, {"authority", match.GetAuthority()}} {
		checkPrefixNotEmpty(r, f.field, f.m)
		if f.m.GetRegex() == "*" {
			r.ErrorAt(f.field+".regex", "RegexInvalid", `is "*", which is no regex; it is always there`)
		}
	}
	for _, f := range []struct {
		field  string
		values map[string]*networking.StringMatch
	}{{"headers", match.GetHeaders()}, {"withoutHeaders", match.GetWithoutHeaders()}, {"queryParams", match.GetQueryParams()}} {
		for _, name := range sortedKeys(f.values) {
			at := f.field + "[" + name + "]"
			checkPrefixNotEmpty(r, at, f.values[name])
			if f.field == "queryParams" {
				if name == "" || len(name) > maxParameter {
					r.ErrorAt(f.field, "NameInvalid", "tests %s; want the name of a parameter, of up to %d bytes", shown(name), maxParameter)
				}
				continue
			}
			if fault := matchHeaderFault(name); fault != "" {
				r.ErrorAt(f.field, "NameInvalid", "tests %s, %s", shown(name), fault)
			}
		}
	}
	checkLabelKeys(r, "sourceLabels", match.GetSourceLabels())
	if len(match.GetGateways()) > 0 && (len(match.GetSourceLabels()) > 0 || match.GetSourceNamespace() != "") {
		r.WarnAt("gateways", "NoEffect", "names gateways, so sourceLabels and sourceNamespace beside it are not tested; write a match of its own for sidecars")
	}
}

// maxParameter is the longest name of a query parameter in bytes that Envoy
// takes.
const maxParameter = 1024

func checkURI(r *Report, match *networking.HTTPMatchRequest) {
	switch u := match.GetUri().GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		checkPath(r, "uri.exact", u.Exact)
	case *networking.StringMatch_Prefix:
		if u.Prefix != "" {
			checkPath(r, "uri.prefix", u.Prefix)
		}
	case *networking.StringMatch_Regex:
		if u.Regex == "*" {
			r.ErrorAt("uri.regex", "RegexInvalid", `is "*", which is no regex; any path is ".*"`)
		}
		if match.GetIgnoreUriCase() {
			r.WarnAt("ignoreUriCase", "NoEffect", "does not count for a regex; begin it with (?i)")
		}
	}
}

func checkPath(r *Report, at, path string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		r.WarnAt(at, "NeverMatches", `is %s, but a path begins with "/"`, shown(path))
	case strings.ContainsAny(path, "?#"):
		r.WarnAt(at, "NeverMatches", "is %s, but a query is not part of the path; use queryParams", shown(path))
	}
}

// checkPrefixNotEmpty refuses what Envoy refuses everywhere but in paths.
func checkPrefixNotEmpty(r *Report, at string, m *networking.StringMatch) {
	if p, ok := m.GetMatchType().(*networking.StringMatch_Prefix); ok && p.Prefix == "" {
		r.ErrorAt(at+".prefix", "Required", "is empty; to test only for presence write {}")
	}
}

var headerName = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$")

// matchHeaderFault says what is wrong with the name of a header to test.
func matchHeaderFault(name string) string {
	switch name {
	case ":method", ":scheme", ":authority", ":path":
		return ""
	}
	switch {
	case claimPath(name) != nil || headerName.MatchString(name):
		return ""
	case strings.HasPrefix(strings.ToLower(name), claimHeader):
		return "which names no claim; write @request.auth.claims[name]"
	}
	return "which is no header name"
}

func checkTLSMatch(r *Report, m proto.Message) {
	match := m.(*networking.TLSMatchAttributes)
	if len(match.GetSniHosts()) == 0 {
		r.ErrorAt("sniHosts", "Required", "is missing: a tls rule is chosen by SNI")
	}
	checkLabelKeys(r, "sourceLabels", match.GetSourceLabels())
}

func checkL4Match(r *Report, m proto.Message) {
	checkLabelKeys(r, "sourceLabels", m.(*networking.L4MatchAttributes).GetSourceLabels())
}

// checkSNIHosts wants SNI names to be names of the VirtualService.
func checkSNIHosts(r *Report, vs *networking.VirtualService, at string, m *networking.TLSMatchAttributes) {
	for i, sni := range m.GetSniHosts() {
		field := fmt.Sprintf("%s.sniHosts[%d]", at, i)
		if isAddress(sni) {
			r.WarnAt(field, "HostInvalid", "is the address %s; clients send no addresses as SNI (RFC 6066)", sni)
			continue
		}
		if fault := vsHostFault(sni); fault != "" {
			r.ErrorAt(field, "HostInvalid", "%s", fault)
			continue
		}
		within := false
		for _, h := range vs.GetHosts() {
			within = within || hostCovers(strings.ToLower(h), strings.ToLower(sni))
		}
		if !within {
			r.ErrorAt(field, "HostInvalid", "is %s, which none of the hosts covers: %s", shown(sni), shown(strings.Join(vs.GetHosts(), ", ")))
		}
	}
}

// checkGatewayName wants "mesh", a name, namespace/name, or the old dotted
// form.
func checkGatewayName(r *Report, v protoreflect.Value) {
	g := v.String()
	ns, name, qualified := strings.Cut(g, "/")
	switch {
	case !qualified:
		if fault := hostFault(g, false); fault != "" {
			r.Errorf("GatewayInvalid", "is %s; want mesh, name or namespace/name", shown(g))
		} else if strings.Contains(g, ".") {
			r.Warnf("Deprecated", "is %s, the old form; write %s", shown(g), shown(fullGateway(g, "")))
		}
	case ns != "." && (len(ns) > maxLabel || !dnsLabel.MatchString(ns)):
		r.Errorf("GatewayInvalid", "is %s, whose namespace is none; want namespace/name", shown(g))
	case hostFault(name, false) != "":
		r.Errorf("GatewayInvalid", "is %s, whose name is none; want namespace/name", shown(g))
	}
}

func checkNamespace(r *Report, v protoreflect.Value) {
	if ns := v.String(); len(ns) > maxLabel || !dnsLabel.MatchString(ns) {
		r.Errorf("NameInvalid", "is %s; want the name of a namespace", shown(ns))
	}
}

func checkObjectName(r *Report, v protoreflect.Value) {
	if hostFault(v.String(), false) != "" {
		r.Errorf("NameInvalid", "is %s; want the name of an object", shown(v.String()))
	}
}

func checkSubsetName(r *Report, v protoreflect.Value) {
	if s := v.String(); len(s) > maxLabel || !dnsLabel.MatchString(s) {
		r.Errorf("NameInvalid", "is %s; want a subset's name: letters, digits and dashes, up to 63", shown(s))
	}
}

// maxRegex and maxRegexSize bound a regex: its length in bytes, and the size
// of the program that RE2 makes of it, which the proxies' bootstrap allows up
// to 32768 instructions.
const (
	maxRegex     = 1024
	maxRegexSize = 16384
)

func checkMatchRegex(r *Report, v protoreflect.Value) {
	if v.String() == "*" {
		return // presence; where it does not stand for that its message says so
	}
	if fault := regexFault(v.String()); fault != "" {
		r.Errorf("RegexInvalid", "%s", fault)
	}
}
