package access

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// What follows is what the text of AuthorizationPolicies means (Istio's
// reference of the API), written down once more for tests and independently of
// package translate: an oracle.

// drawnPolicy is an AuthorizationPolicy for web.
type drawnPolicy struct {
	Action string      `json:"action"`
	Rules  []drawnRule `json:"rules"`
}

type drawnRule struct {
	From []fields `json:"from,omitempty"`
	To   []fields `json:"to,omitempty"`
	When []cond   `json:"when,omitempty"`
}

// fields are those of a source or an operation, negations by their own names.
type fields map[string][]string

type cond struct {
	Key       string   `json:"key"`
	Values    []string `json:"values,omitempty"`
	NotValues []string `json:"notValues,omitempty"`
}

// call is a request or, with TCP, a connection, as a policy may look at it.
// Absent texts are nil.
type call struct {
	From   string              `json:"from"` // namespace/account of a workload, default/plain without an identity
	TCP    bool                `json:"tcp,omitempty"`
	Port   int                 `json:"port,omitempty"`
	Method string              `json:"method,omitempty"`
	Path   string              `json:"path,omitempty"` // with its query
	Host   string              `json:"host,omitempty"`
	XKey   string              `json:"xKey,omitempty"`
	Claims map[string][]string `json:"claims,omitempty"` // of a good token; nil without
}

// requestsOnly are the attributes that connections do not have.
var onlyRequestsHave = []string{"requestPrincipals", "hosts", "methods", "paths", "request.headers[x-key]", "request.auth.principal", "request.auth.claims[group]", "request.auth.audiences"}

// decides is ok, denied, or for connections closed.
func decides(policies []drawnPolicy, c *call) string {
	allowed, anyAllow := false, false
	no := denied
	if c.TCP {
		no = closed
	}
	for _, p := range policies {
		matches := slices.ContainsFunc(p.Rules, func(r drawnRule) bool { return r.holds(p.Action == "ALLOW", c) })
		switch {
		case p.Action == "DENY" && matches:
			return no
		case p.Action == "ALLOW":
			anyAllow = true
			allowed = allowed || matches
		}
	}
	if anyAllow && !allowed {
		return no
	}
	return ok
}

// holds reports whether a rule holds. What a connection does not have makes a
// rule that allows never hold; others are taken for what is left of them.
func (r *drawnRule) holds(allow bool, c *call) bool {
	usable := true
	one := func(list []fields) bool {
		found := len(list) == 0
		for _, f := range list {
			all := true
			for name, values := range f {
				attribute, negated := name, false
				if rest, is := strings.CutPrefix(name, "not"); is {
					attribute, negated = strings.ToLower(rest[:1])+rest[1:], true
				}
				if c.TCP && slices.Contains(onlyRequestsHave, attribute) {
					usable = false
					continue
				}
				all = all && c.is(attribute, values) != negated
			}
			found = found || all
		}
		return found
	}
	from, to := one(r.From), one(r.To)
	when := true
	for _, w := range r.When {
		if c.TCP && slices.Contains(onlyRequestsHave, w.Key) {
			usable = false
			continue
		}
		when = when && (len(w.Values) == 0 || c.is(w.Key, w.Values)) && (len(w.NotValues) == 0 || !c.is(w.Key, w.NotValues))
	}
	return from && to && when && (usable || !allow)
}

// is reports whether an attribute has one of the values.
func (c *call) is(attribute string, values []string) bool {
	namespace, account, _ := strings.Cut(c.From, "/")
	identity := account != "plain"
	path, _, _ := strings.Cut(c.Path, "?")
	return slices.ContainsFunc(values, func(v string) bool {
		switch attribute {
		case "principals", "source.principal":
			return identity && like(v, "cluster.local/ns/"+namespace+"/sa/"+account)
		case "namespaces", "source.namespace":
			return identity && like(v, namespace)
		case "trustDomains", "source.trustDomain":
			return identity && like(v, "cluster.local")
		case "serviceAccounts", "source.serviceAccount":
			if !strings.Contains(v, "/") {
				v = "default/" + v
			}
			return identity && v == namespace+"/"+account
		case "requestPrincipals", "request.auth.principal":
			return c.Claims != nil && like(v, c.Claims["iss"][0]+"/"+c.Claims["sub"][0])
		case "request.auth.claims[group]":
			return slices.ContainsFunc(c.Claims["group"], func(g string) bool { return like(v, g) })
		case "request.auth.audiences":
			return slices.ContainsFunc(c.Claims["aud"], func(g string) bool { return like(v, g) })
		case "ipBlocks", "remoteIpBlocks", "source.ip", "remote.ip", "destination.ip": // all is on loopback here
			block := netip.MustParsePrefix(v)
			return block.Overlaps(netip.MustParsePrefix("127.0.0.0/8"))
		case "hosts":
			return hostLike(v, c.Host)
		case "ports", "destination.port":
			return v == map[int]string{7070: "7070", 8080: "8080", 8880: "8881", 9000: "9000"}[c.Port]
		case "methods":
			return like(v, c.Method)
		case "paths":
			return pathLike(v, path)
		case "request.headers[x-key]":
			return c.XKey != "" && like(v, c.XKey)
		}
		panic(attribute)
	})
}

// like: exact, prefix*, *suffix, or * for anything that is there.
func like(pattern, s string) bool {
	switch {
	case pattern == "*":
		return s != ""
	case strings.HasPrefix(pattern, "*"):
		return strings.HasSuffix(s, pattern[1:])
	case strings.HasSuffix(pattern, "*"):
		return strings.HasPrefix(s, pattern[:len(pattern)-1])
	}
	return pattern == s
}

// hostLike takes hosts in any case, and one without a port for any port.
func hostLike(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	name, _, _ := strings.Cut(host, ":")
	return like(pattern, host) || !strings.Contains(pattern, ":") && like(pattern, name)
}

// pathLike knows templates besides: {*} is one segment, {**} any text, slashes
// too, or none.
func pathLike(pattern, path string) bool {
	if !strings.Contains(pattern, "{") {
		return like(pattern, path)
	}
	expression := strings.NewReplacer(`\{\*\}`, "[^/]+", `\{\*\*\}`, ".*").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("^" + expression + "$").MatchString(path)
}
