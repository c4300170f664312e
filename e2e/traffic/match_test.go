package traffic

import "testing"

// TestMatch covers each kind of HTTPMatchRequest: what matches goes to b.
func TestMatch(t *testing.T) {
	s := run(t, "base", "match")
	user := func(name string) headers { return headers{"x-user": name} }
	s.probes(t, []probe{
		{url: "http://uri-exact.test/here", by: "b"},
		{url: "http://uri-exact.test/here?x=1", by: "b"}, // the query is no part of it
		{url: "http://uri-exact.test/here/", by: "a"},
		{url: "http://uri-exact.test/Here", by: "a"},
		{url: "http://uri-prefix.test/shop/cart", by: "b"},
		{url: "http://uri-prefix.test/shop", by: "a"},
		{url: "http://uri-regex.test/v12/items", by: "b"},
		{url: "http://uri-regex.test/v12/items/1", by: "a"}, // the whole path must match
		{url: "http://uri-ignore-case.test/sHOP/x", by: "b"},
		{url: "http://uri-ignore-case.test/shack", by: "a"},
		{url: "http://scheme-http.test/", by: "b"},
		{url: "http://scheme-https.test/", by: "a"},
		{url: "http://method.test/", method: "POST", by: "b"},
		{url: "http://method.test/", by: "a"},
		{url: "http://method-regex.test/", method: "PATCH", by: "b"},
		{url: "http://method-regex.test/", method: "POST", by: "a"},
		{url: "http://b.authority.test/", by: "b"},
		{url: "http://beta.authority.test/", by: "b"},
		{url: "http://c.authority.test/", by: "a"},
		{name: "header exact", url: "http://header-exact.test/", headers: user("jason"), by: "b"},
		{name: "header exact, longer", url: "http://header-exact.test/", headers: user("jasons"), by: "a"},
		{name: "header exact, absent", url: "http://header-exact.test/", by: "a"},
		{name: "header prefix", url: "http://header-prefix.test/", headers: user("jane"), by: "b"},
		{name: "header prefix, other", url: "http://header-prefix.test/", headers: user("mia"), by: "a"},
		{name: "header regex", url: "http://header-regex.test/", headers: user("john"), by: "b"},
		{name: "header regex, part", url: "http://header-regex.test/", headers: user("johnny"), by: "a"},
		{name: "header present", url: "http://header-present.test/", headers: user("x"), by: "b"},
		{name: "header absent", url: "http://header-present.test/", by: "a"},
		{name: "all headers", url: "http://headers-and.test/", headers: headers{"x-user": "jason", "x-tier": "gold"}, by: "b"},
		{name: "one of two headers", url: "http://headers-and.test/", headers: user("jason"), by: "a"},
		{name: "without, has", url: "http://without.test/", headers: user("jason"), by: "a"},
		{name: "without, other", url: "http://without.test/", headers: user("jane"), by: "b"},
		{name: "without, absent", url: "http://without.test/", by: "b"},
		{name: "without any, has", url: "http://without-present.test/", headers: user("x"), by: "a"},
		{name: "without any, absent", url: "http://without-present.test/", by: "b"},
		{url: "http://query-exact.test/?debug=yes&x=1", by: "b"},
		{url: "http://query-exact.test/?debug=no", by: "a"},
		{url: "http://query-exact.test/", by: "a"},
		{url: "http://query-prefix.test/?debug=yo", by: "b"},
		{url: "http://query-prefix.test/?debug=no", by: "a"},
		{url: "http://query-regex.test/?debug=yikes", by: "b"},
		{url: "http://query-regex.test/?debug=yikest", by: "a"},
		{url: "http://a:81/", by: "b"},
		{url: "http://a/", by: "a"},
		{url: "http://a.default.svc.cluster.local:81/", by: "b"},
		{name: "source labels", url: "http://source-labels.test/", from: "other", by: "b"},
		{name: "other source labels", url: "http://source-labels.test/", by: "a"},
		{url: "http://source-namespace.test/", by: "a"},
		{url: "http://source-namespace-own.test/", by: "b"},
		{url: "http://gateways.test/", by: "a"},
		{url: "http://either.test/here", by: "b"},
		{name: "either, header", url: "http://either.test/", headers: user("jason"), by: "b"},
		{name: "either, none", url: "http://either.test/", by: "a"},
		{url: "http://two.order.test/x/y", by: "a"},
		{url: "http://two.order.test/y", by: "b"},
		{url: "http://one.order.test/y", by: "a"},
	})
}
