package traffic

import (
	"fmt"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// TestChange covers headers, rewrite, redirect, directResponse, corsPolicy and
// delegate.
func TestChange(t *testing.T) {
	s := run(t, "base", "change")
	s.probes(t, []probe{
		{
			name: "headers", url: "http://set.test/", by: "b",
			headers: headers{"x-there": "old", "x-gone": "1"},
			saw:     headers{"x-set": "1", "x-there": "new", "x-add": "1", "x-gone": "", "x-destination": "1"},
			answers: headers{"x-answer": "1", "x-echo-pod": "hidden", "x-echo-namespace": "", "x-from": "destination"},
		},
		{name: "Host", url: "http://host.test/", by: "b", host: "other.example.com"},
		{name: "rewrite a prefix", url: "http://rewrite-prefix.test/old/x?y=1", by: "b", path: "/new/x?y=1", host: "rewrite-prefix.test"},
		{name: "rewrite all", url: "http://rewrite-prefix.test/exact", by: "b", path: "/new", host: "elsewhere.example.com"},
		{name: "rewrite by regex", url: "http://rewrite-prefix.test/re/x/y?z=1", by: "b", path: "/y/x?z=1"},
		{name: "rewrite the authority", url: "http://rewrite-prefix.test/authority/x", by: "b", path: "/authority/x", host: "elsewhere.example.com"},
		{name: "rewrite nothing", url: "http://rewrite-prefix.test/older/x", by: "b", path: "/older/x"},
		redirected("all", 308, "https://new.example.com/new"),
		redirected("uri", 301, "http://redirect.test/new"),
		redirected("authority?x=1", 301, "http://new.example.com/authority?x=1"),
		redirected("port", 302, "http://redirect.test:8443/port"),
		redirected("derived", 301, "https://redirect.test/derived"),
		{name: "direct", url: "http://redirect.test/string", status: 418, body: "teapot", answers: headers{"content-type": "text/x-tea"}},
		{name: "direct bytes", url: "http://redirect.test/bytes", status: 503, body: "hello"},
		{name: "direct without a body", url: "http://redirect.test/empty", status: 204},
		{name: "no route", url: "http://redirect.test/nowhere", status: 404},
		preflight("https://shop.example.com", headers{
			"access-control-allow-origin": "https://shop.example.com", "access-control-allow-methods": "GET,PUT",
			"access-control-allow-headers": "x-one,x-two", "access-control-max-age": "86400",
			"access-control-allow-credentials": "true", "x-echo-workload": "",
		}),
		preflight("https://abc.example.org", headers{"access-control-allow-origin": "https://abc.example.org"}),
		{
			name: "CORS, the request itself", url: "http://cors.test/", by: "b", headers: headers{"origin": "https://shop.example.com"},
			answers: headers{"access-control-allow-origin": "https://shop.example.com", "access-control-expose-headers": "x-seen"},
		},
		{
			name: "CORS, another origin", url: "http://cors.test/", by: "b", headers: headers{"origin": "https://evil.example.com"},
			answers: headers{"access-control-allow-origin": ""},
		},
		{
			name: "CORS, another origin's preflight", url: "http://cors-forward.test/", method: "OPTIONS",
			headers: headers{"origin": "https://evil.example.com", "access-control-request-method": "GET"},
			answers: headers{"access-control-allow-origin": ""},
		},
		{name: "delegate", url: "http://delegates.test/one/b", by: "b"},
		{name: "delegate, its last route", url: "http://delegates.test/one/c", by: "a"},
		{name: "delegate, both match", url: "http://delegates.test/two/x", headers: headers{"x-user": "jason"}, by: "b"},
		{name: "delegate, root does not match", url: "http://delegates.test/two/x", by: "a"},
		{name: "delegate does not match", url: "http://delegates.test/two/z", headers: headers{"x-user": "jason"}, by: "a"},
	})
	for _, host := range []string{"mirror", "mirrors"} {
		t.Run(host, func(t *testing.T) { s.mirrors(t, host) })
	}
}

func redirected(path string, status int, location string) probe {
	return probe{name: "redirect " + path, url: "http://redirect.test/" + path, status: status, answers: headers{"location": location}}
}

func preflight(origin string, want headers) probe {
	return probe{
		name: "preflight from " + origin, url: "http://cors.test/", method: "OPTIONS",
		headers: headers{"origin": origin, "access-control-request-method": "PUT"}, answers: want,
	}
}

// mirrors asks a and has b fail the first request of a key: that must have
// been the copy, so that our own request to b is its second.
func (s *theme) mirrors(t *testing.T, host string) {
	n := 0
	envoytest.Eventually(t, patience, func() string {
		n++
		once := failing(fmt.Sprintf("%s-%d", host, n), 1)
		if r := s.send(t, probe{url: "http://" + host + ".test/", headers: once}); r.Echo.Workload != "a" || r.Status != 503 {
			t.Fatalf("status %d by %q, want a's 503", r.Status, r.Echo.Workload)
		}
		if s.send(t, probe{url: "http://b/", headers: once}).Status != 200 {
			return "b saw no copy before our request"
		}
		return ""
	})
}
