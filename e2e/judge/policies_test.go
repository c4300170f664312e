package judge

import (
	"fmt"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/meshtest/live"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// policies are draws of AuthorizationPolicies and RequestAuthentications of
// the gateway, and of requests with and without tokens.
var policies = drawn{
	configuration: func(d dice) []object { return d.inMesh(d.guarded()) }, ask: dice.tokenRequest,
	decides: coverage.addPolicy,
	wanted: []string{
		"allowed by a rule", "denied by a rule", "denied by none", "no policy denies", "token accepted", "token refused", "no token",
		"missed: method", "missed: path", "missed: host", "missed: address", "missed: header", "missed: identity", "missed: claim", "missed: not",
		"redirect", "routed by a claim",
	},
}

// guarded is a few routes at the gateway, one of them by a claim, and
// policies.
func (d dice) guarded() []object {
	named := func(kind, group, name string, spec object) object {
		return object{"apiVersion": group, "kind": kind, "metadata": object{"name": name, "namespace": "a"}, "spec": spec}
	}
	atGateway := object{"matchLabels": object{"istio": "ingressgateway"}}
	out := []object{named("VirtualService", "networking.istio.io/v1", "routes", object{
		"hosts": []any{"*"}, "gateways": []any{"gw"},
		"http": []any{
			object{"name": "claim", "match": []any{object{"headers": object{"@request.auth.claims.group": object{"exact": d.one("admin", "dev")}}}}, "route": []any{object{"destination": object{"host": "two"}}}},
			object{"name": "moved", "match": []any{object{"uri": object{"prefix": "/b"}}}, "redirect": object{"uri": "/there"}},
			object{"name": "rest", "route": []any{object{"destination": object{"host": "one"}}}},
		},
	})}
	for i := range 1 + d.IntN(3) {
		spec := object{"selector": atGateway, "action": d.one("ALLOW", "ALLOW", "DENY")}
		if !d.chance(5) {
			var rules []any
			for range 1 + d.IntN(3) {
				rules = append(rules, d.policyRule())
			}
			spec["rules"] = rules
		}
		out = append(out, named("AuthorizationPolicy", "security.istio.io/v1", fmt.Sprintf("policy-%d", i), spec))
	}
	if d.chance(80) {
		var rules []any
		for _, iss := range []string{"iss-a", "iss-b"}[:1+d.IntN(2)] {
			r := object{"issuer": iss, "jwks": issuer.Keys(), "forwardOriginalToken": true}
			if d.chance(40) {
				r["audiences"] = []any{"aud-1", d.one("aud-2", "aud-3")}
			}
			if d.chance(30) {
				r["spaceDelimitedClaims"] = []any{"perms"}
			}
			if d.chance(30) {
				r["outputClaimToHeaders"] = []any{object{"header": "x-claim", "claim": d.one("group", "sub")}}
			}
			rules = append(rules, r)
		}
		out = append(out, named("RequestAuthentication", "security.istio.io/v1", "tokens", object{"selector": atGateway, "jwtRules": rules}))
	}
	return out
}

func (d dice) policyRule() object {
	r := object{}
	if d.chance(50) {
		r["from"] = []any{object{"source": d.source()}}
	}
	if d.chance(60) {
		to := []any{object{"operation": d.operation()}}
		if d.chance(30) {
			to = append(to, object{"operation": d.operation()})
		}
		r["to"] = to
	}
	if d.chance(50) {
		var list []any
		for range 1 + d.IntN(2) {
			list = append(list, d.condition())
		}
		r["when"] = list
	}
	return r
}

// some values, without repetition.
func (d dice) some(list ...string) []any {
	out := []any{d.one(list...)}
	if next := d.one(list...); d.chance(40) && next != out[0] {
		out = append(out, next)
	}
	return out
}

// fields draws one or two of a message's fields, or their negations.
func (d dice) fields(of map[string][]string) object {
	out := object{}
	names := make([]string, 0, len(of))
	for _, k := range []string{"ipBlocks", "remoteIpBlocks", "requestPrincipals", "principals", "namespaces", "serviceAccounts", "trustDomains", "hosts", "ports", "methods", "paths"} {
		if of[k] != nil {
			names = append(names, k)
		}
	}
	for range 1 + d.IntN(2) {
		name := d.one(names...)
		values := d.some(of[name]...)
		if d.chance(25) {
			name = "not" + strings.ToUpper(name[:1]) + name[1:]
		}
		out[name] = values
	}
	if out["serviceAccounts"] != nil || out["notServiceAccounts"] != nil { // not beside what says the same
		for _, k := range []string{"principals", "notPrincipals", "namespaces", "notNamespaces"} {
			delete(out, k)
		}
	}
	return out
}

func (d dice) source() object {
	return d.fields(map[string][]string{
		"ipBlocks":          {"127.0.0.0/8", "127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "203.0.113.1", "198.51.100.0/24"},
		"remoteIpBlocks":    {"127.0.0.0/8", "10.0.0.0/8", "203.0.113.1", "198.51.100.0/24", "192.0.2.9"},
		"requestPrincipals": {"*", "iss-a/alice", "iss-a/*", "*/bob", "iss-b/alice"},
		"principals":        {"*", "cluster.local/ns/a/sa/friend", "cluster.local/ns/b/*", "*/sa/gw"},
		"namespaces":        {"a", "b", "*"},
		"serviceAccounts":   {"friend", "b/guest", "a/gw"},
		"trustDomains":      {"cluster.local", "other.local", "cluster*"},
	})
}

func (d dice) operation() object {
	return d.fields(map[string][]string{
		"hosts":   {"one", "x.test", "*.test", "x*", "X.test"},
		"ports":   {"80", "10080", "443", "8080", "8881", "9000"},
		"methods": {"GET", "POST", "P*", "*"},
		"paths":   {"/a", "/a*", "*b", "/b", "*", "/a/{*}", "/a/{**}"},
	})
}

func (d dice) condition() object {
	keys := []string{
		"request.headers[x-a]", "request.auth.claims[group]", "request.auth.claims[nested][level]", "request.auth.principal",
		"request.auth.audiences", "request.auth.claims[perms]", "request.auth.claims[perms]", "source.principal", "source.ip", "remote.ip", "destination.ip", "destination.port", "request.auth.presenter", "source.namespace",
		"connection.sni", "source.serviceAccount", "source.trustDomain", "experimental.envoy.filters.com.example[noted]",
	}
	values := map[string][]string{
		"request.headers[x-a]": {"1", "o*", "*e", "*"}, "request.auth.claims[group]": {"admin", "d*", "*"},
		"request.auth.claims[nested][level]": {"high", "low"}, "request.auth.principal": {"iss-a/alice", "iss-a/*", "*"},
		"request.auth.audiences": {"aud-1", "aud-2"}, "request.auth.claims[perms]": {"read", "read write", "w*"}, "source.ip": {"127.0.0.1", "10.0.0.0/8"}, "remote.ip": {"127.0.0.0/8", "10.0.0.0/8", "198.51.100.7", "192.0.2.0/24"},
		"destination.ip": {"127.0.0.0/8", "10.0.0.0/8"}, "destination.port": {"10080", "80", "8080", "9000"}, "request.auth.presenter": {"app"}, "source.namespace": {"a", "b"}, "source.principal": {"cluster.local/ns/a/sa/friend", "*/sa/guest"},
		"connection.sni": {"x.test", "*.test", "outbound_.80*"}, "source.serviceAccount": {"friend", "b/guest"}, "source.trustDomain": {"cluster.local", "other*"}, "experimental.envoy.filters.com.example[noted]": {"1", "*"},
	}
	key := d.one(keys...)
	c := object{"key": key, "values": d.some(values[key]...)}
	if d.chance(25) {
		c["notValues"] = c["values"]
		delete(c, "values")
	}
	return c
}

// sparingMarkers lets the request through that tells which configuration is
// in effect, whatever the policies say.
func sparingMarkers(objects []object) []object {
	allows := false
	out := copyOf(objects)
	for _, o := range out {
		spec, _ := o["spec"].(object)
		if o["kind"] == "Sidecar" {
			if egress, _ := spec["egress"].([]any); len(egress) > 0 {
				hosts, _ := egress[0].(object)["hosts"].([]any)
				egress[0].(object)["hosts"] = append(hosts, "./"+marker, "b/three.b.svc.cluster.local") // whose port it is
			}
		}
		if o["kind"] != "AuthorizationPolicy" {
			continue
		}
		if spec["action"] != "DENY" {
			allows = true
			continue
		}
		rules, _ := spec["rules"].([]any)
		for _, r := range rules {
			to, _ := r.(object)["to"].([]any)
			if len(to) == 0 {
				to = []any{object{"operation": object{}}}
			}
			for _, t := range to {
				op, ok := t.(object)["operation"].(object)
				if !ok {
					op = object{}
					t.(object)["operation"] = op
				}
				not, _ := op["notHosts"].([]any)
				op["notHosts"] = append(not, marker)
			}
			r.(object)["to"] = to
		}
	}
	if allows {
		out = append(out, object{
			"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": object{"name": "marker", "namespace": "a"},
			"spec": object{
				"selector": object{"matchLabels": object{"istio": "ingressgateway"}},
				"rules":    []any{object{"to": []any{object{"operation": object{"hosts": []any{marker}}}}}},
			},
		})
	}
	return out
}

func (d dice) tokenRequest(_ []object) *asked {
	h := &simulate.HTTP{
		Method: d.one("GET", "GET", "POST", "PUT"), Scheme: "http",
		Authority: d.one("one", "x.test", "w.test", "X.test", "x.test:80", "other"),
		Path:      d.one("/", "/a", "/a/b", "/a/b/c", "/b", "/ab", "/A", "/a?q=1", d.one(oddPaths...), d.one(oddPaths...)),
	}
	if d.chance(15) {
		h.Authority = d.spelled(h.Authority)
	}
	if d.chance(60) {
		h.Header = append(h.Header, simulate.Field{Name: "x-a", Value: d.one("1", "one", "2", "")})
		if d.chance(15) {
			h.Header = append(h.Header, simulate.Field{Name: "X-A", Value: d.one("1", "")})
		}
	}
	if d.chance(20) {
		h.Header = append(h.Header, simulate.Field{Name: "x-forwarded-for", Value: d.one("192.0.2.9", "198.51.100.7, 192.0.2.9", "192.0.2.9,198.51.100.7", "junk", "10.1.1.1,junk")})
	}
	if d.chance(20) {
		h.Header = append(h.Header, simulate.Field{Name: "x-claim", Value: "forged"})
	}
	if d.chance(70) {
		h.Claims = map[string]any{"iss": d.one("iss-a", "iss-a", "iss-b", "iss-c"), "sub": d.one("alice", "bob")}
		switch d.IntN(4) {
		case 0:
			h.Claims["aud"] = d.one("aud-1", "aud-2")
		case 1:
			h.Claims["aud"] = []any{"aud-3", "aud-1"}
		}
		switch d.IntN(3) {
		case 0:
			h.Claims["group"] = d.one("admin", "dev")
		case 1:
			h.Claims["group"] = []any{"dev", d.one("admin", "ops")}
		}
		if d.chance(40) {
			h.Claims["nested"] = map[string]any{"level": d.one("high", "low")}
		}
		if d.chance(20) {
			h.Claims["azp"] = "app"
		}
		if d.chance(15) {
			h.Claims[d.one("exp", "exp", "nbf")] = []int64{1000000000, 4102444800}[d.IntN(2)]
		}
		if d.chance(65) {
			h.Claims["perms"] = d.one("read write", "read")
		}
	}
	return &asked{Side: "gateway", HTTP: h}
}

func (c coverage) addPolicy(hop *simulate.Hop, q *asked) {
	for _, v := range hop.Filters {
		switch {
		case strings.Contains(v.Filter, "jwt"):
			switch {
			case !v.Allowed:
				c["token refused"]++
			case q.HTTP.Claims == nil:
				c["no token"]++
			default:
				c["token accepted"]++
			}
		case v.Allowed && v.Rule != "":
			c["allowed by a rule"]++
		case v.Allowed:
			c["no policy denies"]++
		case v.Rule != "":
			c["denied by a rule"]++
		default:
			c["denied by none"]++
		}
		for _, p := range v.Passed {
			c.countMissed(p.Why)
		}
	}
	if hop.Reply != nil && hop.Reply.Location != "" {
		c["redirect"]++
	}
	if hop.Route != nil && hop.Route.Name == "claim" {
		c["routed by a claim"]++
	}
}

// countMissed takes the reason for which a policy did not match apart.
func (c coverage) countMissed(why string) {
	for kind, words := range map[string][]string{
		"method": {"method"}, "path": {"path"}, "host": {"authority"}, "address": {"address", "is not in"}, "header": {"header x-a"},
		"identity": {"identity", "principal"}, "claim": {"group", "level"}, "not": {"must not"},
	} {
		for _, w := range words {
			if strings.Contains(why, w) {
				c["missed: "+kind]++
				break
			}
		}
	}
}

// issuer signs tokens with a key of this run.
var issuer = func() *live.Issuer {
	i, err := live.NewIssuer()
	if err != nil {
		panic(err) // no randomness
	}
	return i
}()
