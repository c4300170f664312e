package judge

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// texts is objects as one YAML text.
func texts(objects []object) string {
	var parts []string
	for _, o := range objects {
		b, err := yaml.Marshal(o)
		if err != nil {
			panic(err) // values of JSON only
		}
		parts = append(parts, string(b))
	}
	return strings.Join(parts, "---\n")
}

func objectsOf(t *testing.T, text string) []object {
	t.Helper()
	var out []object
	for _, doc := range strings.Split(text, "---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		if o != nil {
			out = append(out, o)
		}
	}
	return out
}

// wayDice draws what is about whole ways.
type wayDice struct{ dice }

func security(kind, ns, name string, spec object) object {
	return object{"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": object{"name": name, "namespace": ns}, "spec": spec}
}

func network(kind, ns, name string, spec object) object {
	return object{"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": object{"name": name, "namespace": ns}, "spec": spec}
}

func selecting(app string) object { return object{"matchLabels": object{"app": app}} }

func (d wayDice) configuration() []object {
	out := []object{d.gateway()}
	out = append(out, d.peers()...)
	out = append(out, d.destinationRules()...)
	out = append(out, d.policies()...)
	if d.chance(60) {
		out = append(out, d.tokens())
	}
	if d.chance(70) {
		for _, o := range d.dice.configuration() {
			spec := o["spec"].(object)
			for _, r := range spec["http"].([]any) {
				d.portly(r.(object))
			}
			if d.chance(10) {
				spec["exportTo"] = []any{d.one(".", "*", "b")}
			}
			out = append(out, o)
		}
	}
	if d.chance(50) {
		for _, o := range d.connectionRoutes() {
			o["metadata"].(object)["name"] = "connections-" + o["metadata"].(object)["name"].(string)
			out = append(out, o)
		}
	}
	if d.chance(25) {
		out = append(out, d.delegating()...)
	}
	return out
}

// portly gives some of a rule's destinations ports, and its CORS policy the old
// form.
func (d wayDice) portly(rule object) {
	list, _ := rule["route"].([]any)
	for _, item := range list {
		if to := item.(object)["destination"].(object); d.chance(25) {
			to["port"] = object{"number": []int{80, 8880, 7070}[d.IntN(3)]}
		}
	}
	if matches, ok := rule["match"].([]any); ok && d.chance(10) {
		matches[0].(object)["headers"] = object{"x-forwarded-client-cert": d.headerTextOf(".*URI=spiffe://cluster.local/ns/a/sa/friend.*", ".*DNS=client.test.*", ".*Subject=\"CN=alice.*")}
	}
	if cors, ok := rule["corsPolicy"].(object); ok && d.chance(30) {
		delete(cors, "allowOrigins")
		cors["allowOrigin"] = []any{"http://ok.test"}
	}
}

// headerTextOf is that a header is there, or is like one of these.
func (d wayDice) headerTextOf(like ...string) any {
	if d.chance(30) {
		return object{"regex": "*"}
	}
	return object{"regex": d.one(like...)}
}

func (d wayDice) gateway() object {
	var o object
	if err := yaml.Unmarshal([]byte(gatewayOfAll), &o); err != nil {
		panic(err) // a constant
	}
	servers := o["spec"].(object)["servers"].([]any)
	if d.chance(15) {
		servers[0].(object)["tls"] = object{"httpsRedirect": true}
	}
	if d.chance(20) {
		servers[0].(object)["hosts"] = []any{d.one("a/*", "b/*", "./*", "*.test", "a/x.test")}
	}
	if d.chance(20) {
		servers[4].(object)["tls"] = object{"mode": "AUTO_PASSTHROUGH"}
	}
	servers[5].(object)["tls"] = d.clientsTLS()
	if d.chance(20) {
		tls := servers[1].(object)["tls"].(object)
		delete(tls, "credentialName")
		tls["credentialNames"] = []any{"gw"}
	}
	return o
}

// clientNames are names in certificates of clients outside.
var clientNames = []string{"spiffe://cluster.local/ns/a/sa/friend", "spiffe://other.local/ns/b/sa/guest", "client.test", "someone@client.test", "192.0.2.7"}

// clientsTLS asks clients outside for certificates.
func (d wayDice) clientsTLS() object {
	tls := object{"mode": d.one("MUTUAL", "OPTIONAL_MUTUAL"), "credentialName": d.one("gw-clients", "gw-revokes")}
	if d.chance(30) {
		tls["subjectAltNames"] = d.some(clientNames...)
	}
	if d.chance(15) {
		tls["insecureSkipVerify"] = true
	}
	if d.chance(15) {
		tls["credentialName"], tls["caCertCredentialName"] = "gw", "authority"
	}
	return tls
}

// certificate is what a client outside shows; nil for nothing.
func (d wayDice) certificate() *simulate.Certificate {
	if d.chance(25) {
		return nil
	}
	out := &simulate.Certificate{Subject: d.one("", "CN=alice", "CN=alice,O=example"), Untrusted: d.chance(12), Expired: d.chance(12), Revoked: d.chance(20)}
	for range d.IntN(3) {
		out.SubjectAltNames = append(out.SubjectAltNames, d.one(clientNames...))
	}
	return out
}

var modes = []string{"STRICT", "PERMISSIVE", "DISABLE", "UNSET"}

func (d wayDice) peers() []object {
	mtls := func() object { return object{"mode": d.one(modes...)} }
	var out []object
	if d.chance(30) {
		out = append(out, security("PeerAuthentication", "istio-system", "default", object{"mtls": mtls()}))
	}
	if d.chance(30) {
		out = append(out, security("PeerAuthentication", "a", "default", object{"mtls": mtls()}))
	}
	for _, app := range []string{"one", "three"} {
		if !d.chance(35) {
			continue
		}
		spec := object{"selector": selecting(app), "mtls": mtls()}
		if d.chance(60) {
			spec["portLevelMtls"] = object{d.one("8080", "8881", "9000", "7070"): mtls()}
		}
		out = append(out, security("PeerAuthentication", map[string]string{"one": "a", "three": "b"}[app], app, spec))
	}
	return out
}

// destinationRules have a connection for each request: one that lives on is
// decided about as when it came.
func (d wayDice) destinationRules() []object {
	pool := object{"http": object{"maxRequestsPerConnection": 1}}
	// An application takes off one TLS, not another in it.
	tls := func(modes ...string) object {
		t := object{"mode": d.one(append(modes, "ISTIO_MUTUAL", "DISABLE")...)}
		if t["mode"] == "SIMPLE" {
			t["insecureSkipVerify"] = true
		}
		if t["mode"] == "ISTIO_MUTUAL" && d.chance(30) {
			t["subjectAltNames"] = []any{"spiffe://cluster.local/ns/" + d.one("a/sa/one", "b/sa/three", "a/sa/other")}
		}
		return t
	}
	policy := func() object {
		p := object{"connectionPool": pool}
		if d.chance(30) {
			p["tls"] = tls()
		}
		if d.chance(25) {
			port := object{"port": object{"number": []int{80, 8880, 7070, 9000}[d.IntN(4)]}, "connectionPool": pool}
			if d.chance(80) {
				port["tls"] = tls("SIMPLE")
			}
			p["portLevelSettings"] = []any{port}
		}
		return p
	}
	var out []object
	for _, s := range []struct{ host, ns string }{{"one", "a"}, {"two", "a"}, {"three", "b"}} {
		subsets := []any{}
		for _, v := range []string{"v1", "v2"} {
			subset := object{"name": v, "labels": object{"version": v}}
			if d.chance(30) {
				subset["trafficPolicy"] = policy()
			}
			subsets = append(subsets, subset)
		}
		spec := object{"host": s.host, "trafficPolicy": policy(), "subsets": subsets}
		if d.chance(10) {
			spec["exportTo"] = []any{d.one(".", "*", "b")}
		}
		if d.chance(10) {
			spec["workloadSelector"] = selecting(d.one("client", "guest"))
		}
		out = append(out, network("DestinationRule", s.ns, s.host, spec))
	}
	return out
}

func (d wayDice) policies() []object {
	var out []object
	for i := range d.IntN(4) {
		spec := object{"action": d.one("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM")}
		if spec["action"] == "CUSTOM" {
			spec["provider"] = object{"name": "asks"}
		}
		ns := d.one("a", "a", "a", "b", "istio-system")
		if d.chance(70) {
			spec["selector"] = selecting(map[string]string{"a": "one", "b": "three", "istio-system": "one"}[ns])
			if ns == "a" && d.chance(35) {
				spec["selector"] = object{"matchLabels": object{"istio": "ingressgateway"}}
			}
		}
		if !d.chance(10) {
			var rules []any
			for range 1 + d.IntN(2) {
				rules = append(rules, d.policyRule())
			}
			spec["rules"] = rules
		}
		out = append(out, security("AuthorizationPolicy", ns, fmt.Sprint("policy-", i), spec))
	}
	return out
}

func (d wayDice) tokens() object {
	r := object{"issuer": "iss-a", "jwks": issuer.Keys()}
	if d.chance(50) {
		r["forwardOriginalToken"] = true
	}
	if d.chance(40) {
		r["audiences"] = []any{"aud-1", d.one("aud-2", "aud-3")}
	}
	if d.chance(40) {
		r["outputClaimToHeaders"] = []any{object{"header": "x-claim", "claim": d.one("group", "sub", "nested.level")}}
	}
	if d.chance(80) {
		r["spaceDelimitedClaims"] = []any{"perms"}
	}
	if d.chance(30) {
		r["outputPayloadToHeader"] = "x-payload"
	}
	switch d.IntN(6) {
	case 0:
		r["fromHeaders"] = []any{object{"name": "x-token", "prefix": "T "}}
	case 1:
		r["fromParams"] = []any{"token"}
	case 2:
		r["fromCookies"] = []any{"token"}
	}
	rules := []any{r}
	if d.chance(40) {
		rules = append(rules, object{"issuer": "iss-b", "jwks": issuer.Keys(), "forwardOriginalToken": true})
	}
	spec := object{"jwtRules": rules}
	switch d.IntN(4) {
	case 0, 1:
		spec["selector"] = selecting("one")
	case 2:
		spec["selector"] = object{"matchLabels": object{"istio": "ingressgateway"}}
	}
	return security("RequestAuthentication", "a", "tokens", spec)
}

// delegating is a route whose rules another VirtualService has: those that lie
// within its own conditions.
func (d dice) delegating() []object {
	rules := []any{}
	for i := range 1 + d.IntN(3) {
		rule := d.rule(fmt.Sprint("delegated-", i))
		delete(rule, "match")
		if d.chance(60) {
			m := d.match()
			delete(m, "gateways")
			rule["match"] = []any{m}
		}
		rules = append(rules, rule)
	}
	own := object{"uri": object{"prefix": d.one("/", "/a")}}
	if d.chance(30) {
		own["headers"] = object{"x-a": object{"exact": "1"}}
	}
	return []object{
		network("VirtualService", "a", "delegating", object{
			"hosts": []any{"y.test"}, "gateways": []any{"gw", "mesh"},
			"http": []any{
				object{"name": "delegating", "match": []any{own}, "delegate": object{"name": "delegate", "namespace": "b"}},
				object{"name": "own", "route": []any{object{"destination": object{"host": "one"}}}},
			},
		}),
		network("VirtualService", "b", "delegate", object{"http": rules}),
	}
}

func (d wayDice) query() *simulate.Query {
	q := &simulate.Query{From: d.one("a/friend", "a/friend", "b/guest", "a/bare", "gateway/a/gw", "gateway/a/gw")}
	outside := strings.HasPrefix(q.From, "gateway/")
	if outside && d.chance(50) {
		q.Source = netip.MustParseAddr(d.one("198.51.100.7", "198.51.100.8"))
	}
	host := d.one("one", "one", "three", "two")
	if full := map[string]string{"one": "one.a", "two": "two.a", "three": "three.b"}[host]; q.From == "b/guest" || host == "three" || d.chance(20) {
		host = full + d.one("", ".svc.cluster.local")
	}
	switch n := d.IntN(100); {
	case n < 12:
		q.URL = "tcp://" + host + d.one(":9000", ":9000", ":7070")
		return q
	case n < 24:
		q.URL = "tls://" + host + ":9443"
		q.SNI = d.one("x.test", "w.v.test", "w.test", "a.b.v.test", "unknown.example", "one.a.svc.cluster.local", "outbound_.9443_._.one.a.svc.cluster.local", "outbound_.9443_.v2_.one.a.svc.cluster.local", host)
		return q
	}
	scheme, port := "http", d.one("", "", "", ":8880", ":7070")
	if outside {
		port = ""
		host = d.one("one", "x.test", "w.v.test", "xx.test", "y.test", "unknown")
		if d.chance(25) {
			scheme, port = "https", d.one("", ":8444", ":8445", ":8445", ":8445")
			q.SNI = d.one("x.test", "w.v.test", "unknown")
			q.Certificate = d.certificate()
		}
	} else if q.From != "a/bare" && d.chance(20) {
		host, port = d.one("x.test", "w.v.test", "y.test"), ""
	}
	d.request(q, scheme+"://"+host+port)
	return q
}

func (d wayDice) request(q *simulate.Query, base string) {
	r := d.tokenRequest(nil).HTTP
	q.URL = base + d.one(r.Path, d.one(paths...))
	q.Method, q.Header, q.Claims = r.Method, r.Header, r.Claims
	if q.Claims != nil { // now and then where it is not looked for first
		switch d.IntN(8) {
		case 0:
			q.Header = append(q.Header, simulate.Field{Name: "x-token", Value: "T " + simulate.TokenText})
		case 1:
			q.Header = append(q.Header, simulate.Field{Name: "cookie", Value: "b=1; token=" + simulate.TokenText})
		case 2:
			q.URL = strings.SplitN(q.URL, "?", 2)[0] + "?r=1&" + d.one("token", "access_token") + "=" + simulate.TokenText + d.one("", "&q=1")
		}
	}
	if q.Claims == nil && d.chance(10) {
		q.Header = append(q.Header, simulate.Field{Name: d.one("authorization", "x-token", "cookie"), Value: d.one("Bearer junk", "T junk", "junk", "token=junk")})
	}
	if d.chance(15) {
		q.Method = http.MethodOptions
		q.Header = append(q.Header, simulate.Field{Name: "origin", Value: d.one("http://ok.test", "http://bad.test")}, simulate.Field{Name: "access-control-request-method", Value: "GET"})
	}
	if d.chance(25) {
		q.Header = append(q.Header, simulate.Field{Name: "x-b", Value: d.one("1", "2", "one")})
	}
	if !strings.Contains(q.URL, "?") && d.chance(30) {
		q.URL += "?" + d.one("q=1", "q=one&r=2", "r=1")
	}
	q.HTTP2 = strings.HasPrefix(base, "http://") && d.chance(10)
}
