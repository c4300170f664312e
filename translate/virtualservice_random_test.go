package translate_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// drawn makes VirtualServices at random, of sound values and of hostile ones.
type drawn struct{ *rand.Rand }

func pick[T any](d drawn, of ...T) T { return of[d.IntN(len(of))] }

// often is true nine times of ten.
func (d drawn) often() bool  { return d.IntN(10) > 0 }
func (d drawn) rarely() bool { return !d.often() }
func (d drawn) half() bool   { return d.IntN(2) == 0 }

func (d drawn) text() string {
	if d.rarely() {
		return pick(d, "", " ", "\x00", "\n", "%", "%x", "\\", "a\tb", "ü", strings.Repeat("x", 2000), ":path", "{", "*")
	}
	return pick(d, "a", "x-user", "/shop", "v1", "reviews", "100", "50%%", "%REQ(X-A)%")
}

func (d drawn) regex() string {
	if d.rarely() {
		return pick(d, "(", "*", "", "a{1000}b{1000}", strings.Repeat("(ab?c[d-f]g.h)", 60)+"{900}", "\\C", "(?P<n>a)", "[[:alpha:]]+", "\\pL+", "(?i)x")
	}
	return pick(d, ".*", "/a/.*", "v[12]", "^/service/([^/]+)(/.*)$", "a|b", "\\d+")
}

func (d drawn) stringMatch() *networking.StringMatch {
	switch d.IntN(4) {
	case 0:
		return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: d.path()}}
	case 1:
		return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: d.path()}}
	case 2:
		return &networking.StringMatch{MatchType: &networking.StringMatch_Regex{Regex: d.regex()}}
	}
	return &networking.StringMatch{}
}

func (d drawn) path() string {
	if d.rarely() {
		return d.text()
	}
	return pick(d, "/", "/shop", "/shop/cart", "/a b", "/ü", "GET", "https")
}

func (d drawn) matches(names ...string) map[string]*networking.StringMatch {
	out := map[string]*networking.StringMatch{}
	for range d.IntN(3) {
		out[pick(d, append(names, d.text())...)] = d.stringMatch()
	}
	return out
}

func (d drawn) match() *networking.HTTPMatchRequest {
	m := &networking.HTTPMatchRequest{Name: d.text(), IgnoreUriCase: d.half(), StatPrefix: pick(d, "", "", d.text())}
	if d.often() {
		m.Uri = d.stringMatch()
	}
	for _, f := range []**networking.StringMatch{&m.Scheme, &m.Method, &m.Authority} {
		if d.rarely() {
			*f = d.stringMatch()
		}
	}
	m.Headers = d.matches("end-user", "x-version", "@request.auth.claims.group", "@request.auth.claims[a][b]")
	m.WithoutHeaders = d.matches("x-internal")
	m.QueryParams = d.matches("v", "debug")
	if d.rarely() {
		m.Port = pick[uint32](d, 80, 8080, 70000)
		m.SourceNamespace = pick(d, "default", "other", "a b")
		m.SourceLabels = map[string]string{pick(d, "app", "a b"): "web"}
		m.Gateways = []string{pick(d, "mesh", "gateway", "a/b/c")}
	}
	return m
}

func (d drawn) duration() *durationpb.Duration {
	if d.rarely() {
		return pick(d, &durationpb.Duration{Seconds: -1}, &durationpb.Duration{Nanos: 1}, &durationpb.Duration{Seconds: 1 << 60}, &durationpb.Duration{Nanos: -5, Seconds: 3})
	}
	return durationpb.New(pick(d, 0, time.Millisecond, time.Second, 1500*time.Millisecond, 24*time.Hour))
}

func (d drawn) percent() *networking.Percent {
	return pick(d, nil, &networking.Percent{}, &networking.Percent{Value: 100}, &networking.Percent{Value: 12.345}, &networking.Percent{Value: 0.0001},
		&networking.Percent{Value: pick(d, -1, 101, 1e-9, 50)})
}

func (d drawn) destination() *networking.Destination {
	out := &networking.Destination{Host: pick(d, "reviews", "ratings", "reviews.default.svc.cluster.local", "nowhere", "Reviews.default.svc.cluster.local.")}
	if d.rarely() {
		out.Host = d.text()
	}
	if d.half() {
		out.Subset = pick(d, "v1", "v2", d.text())
	}
	if d.half() {
		out.Port = &networking.PortSelector{Number: pick[uint32](d, 80, 9080, 0, 99999)}
	}
	return out
}

func (d drawn) headers() *networking.Headers {
	if d.half() {
		return nil
	}
	ops := func() *networking.Headers_HeaderOperations {
		o := &networking.Headers_HeaderOperations{Set: map[string]string{}, Add: map[string]string{}}
		for range d.IntN(3) {
			o.Set[pick(d, "x-a", "Host", d.text())] = d.text()
			o.Add[pick(d, "x-b", ":authority", d.text())] = d.text()
			o.Remove = append(o.Remove, pick(d, "x-c", "host", d.text()))
		}
		return o
	}
	return &networking.Headers{Request: ops(), Response: ops()}
}

func (d drawn) http() *networking.HTTPRoute {
	h := &networking.HTTPRoute{Name: d.text(), Headers: d.headers()}
	for range d.IntN(3) {
		h.Match = append(h.Match, d.match())
	}
	switch d.IntN(6) {
	case 0:
		h.Redirect = &networking.HTTPRedirect{Uri: pick(d, "/x", "%PREFIX()%/y", d.text()), Authority: d.text(), Scheme: pick(d, "", "https", d.text()), RedirectCode: pick[uint32](d, 0, 302, 308, 304)}
		if d.half() {
			h.Redirect.RedirectPort = &networking.HTTPRedirect_Port{Port: pick[uint32](d, 80, 8443, 0, 99999)}
		}
		if d.rarely() {
			h.Redirect.PrefixRewrite = d.text()
		}
		return h
	case 1:
		h.DirectResponse = &networking.HTTPDirectResponse{Status: pick[uint32](d, 200, 503, 599, 600, 0)}
		if d.half() {
			h.DirectResponse.Body = &networking.HTTPBody{Specifier: &networking.HTTPBody_String_{String_: strings.Repeat(d.text(), d.IntN(50))}}
		}
		return h
	}
	for range 1 + d.IntN(3) {
		h.Route = append(h.Route, &networking.HTTPRouteDestination{Destination: d.destination(), Weight: pick[int32](d, 0, 1, 50, 100, -1), Headers: d.headers()})
	}
	d.extras(h)
	return h
}

func (d drawn) extras(h *networking.HTTPRoute) {
	if d.half() {
		h.Timeout = d.duration()
	}
	if d.half() {
		h.Rewrite = pick(d,
			&networking.HTTPRewrite{Uri: d.path()}, &networking.HTTPRewrite{Authority: d.text()},
			&networking.HTTPRewrite{UriRegexRewrite: &networking.RegexRewrite{Match: d.regex(), Rewrite: pick(d, "/x", `/\1`, `\9`, `\`, d.text())}})
	}
	if d.half() {
		h.Retries = &networking.HTTPRetry{Attempts: pick[int32](d, 0, 1, 3, -1), RetryOn: pick(d, "", "5xx", "503,reset", "nope", ","), PerTryTimeout: d.duration()}
		if d.half() {
			h.Retries.Backoff = d.duration()
			h.Retries.RetryRemoteLocalities = wrapperspb.Bool(d.half())
			h.Retries.RetryIgnorePreviousHosts = wrapperspb.Bool(d.half())
		}
	}
	if d.half() {
		h.Fault = &networking.HTTPFaultInjection{
			Delay: &networking.HTTPFaultInjection_Delay{HttpDelayType: &networking.HTTPFaultInjection_Delay_FixedDelay{FixedDelay: d.duration()}, Percentage: d.percent()},
			Abort: &networking.HTTPFaultInjection_Abort{ErrorType: &networking.HTTPFaultInjection_Abort_HttpStatus{HttpStatus: pick[int32](d, 500, 200, 199, 600)}, Percentage: d.percent()},
		}
	}
	if d.half() {
		h.Mirrors = []*networking.HTTPMirrorPolicy{{Destination: d.destination(), Percentage: d.percent()}}
	}
	if d.half() {
		h.CorsPolicy = &networking.CorsPolicy{
			AllowOrigins: []*networking.StringMatch{d.stringMatch()}, AllowMethods: []string{pick(d, "GET", "*", d.text())},
			AllowHeaders: []string{pick(d, "x-a", "*", d.text())}, MaxAge: d.duration(), AllowCredentials: wrapperspb.Bool(d.half()),
			UnmatchedPreflights: pick(d, networking.CorsPolicy_UNSPECIFIED, networking.CorsPolicy_IGNORE, networking.CorsPolicy_UnmatchedPreflights(77)),
		}
	}
}

func (d drawn) virtualService() *networking.VirtualService {
	vs := &networking.VirtualService{Hosts: []string{pick(d, "reviews", "*.example.com", "shop.example.com", "Ratings.", "10.0.0.1", d.text())}}
	for range 1 + d.IntN(3) {
		vs.Http = append(vs.Http, d.http())
	}
	return vs
}

// TestRandomVirtualServices draws VirtualServices. What the checks let pass
// must make routes that Envoy's own validation and a real Envoy accept: a
// check that is missing shows here.
func TestRandomVirtualServices(t *testing.T) {
	d := drawn{rand.New(rand.NewPCG(1, 2))}
	var listeners []json.RawMessage
	const want, most = 150, 200_000
	for i := 0; len(listeners) < want && i < most; i++ {
		vs := d.virtualService()
		meta := config.Meta{Key: config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "drawn"}, Version: "v1"}
		meta.Hash = config.NewHasher().Uint(uint64(i)).Proto(vs).Sum()
		if hasError(translate.Check(&meta, vs)) {
			continue
		}
		for _, r := range tablesWith(t, &config.VirtualService{Meta: meta, Spec: vs}) {
			listeners = append(listeners, listenerWithTable(t, fmt.Sprintf("drawn %d %s", i, r.GetName()), 20000+len(listeners), r))
		}
	}
	if len(listeners) < want {
		t.Fatalf("the checks let only %d tables pass", len(listeners))
	}
	envoyTakes(t, envoytest.Binary(t), listeners)
}

// FuzzVirtualService reads a spec as a source would. Whatever the checks let
// pass must make sound routes.
func FuzzVirtualService(f *testing.F) {
	translate.AddCases(f, "VirtualService")
	d := drawn{rand.New(rand.NewPCG(3, 4))}
	for range 50 {
		if js, err := protojson.Marshal(d.virtualService()); err == nil { // some durations have no JSON form
			f.Add(js)
		}
	}
	f.Fuzz(func(t *testing.T, js []byte) {
		vs := &networking.VirtualService{}
		if protojson.Unmarshal(js, vs) != nil {
			return
		}
		meta := config.Meta{Key: config.Key{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "fuzzed"}, Version: "v1"}
		meta.Hash = config.NewHasher().Proto(vs).Sum()
		if !hasError(translate.Check(&meta, vs)) {
			tablesWith(t, &config.VirtualService{Meta: meta, Spec: vs})
		}
	})
}

func hasError(problems []config.Problem) bool {
	for _, p := range problems {
		if p.Severity == config.Error {
			return true
		}
	}
	return false
}

// tablesWith are the route tables of a small mesh with one VirtualService.
func tablesWith(t *testing.T, vs *config.VirtualService) []*route.RouteConfiguration {
	t.Helper()
	b := config.NewBuilder(nil)
	for i, name := range []string{"reviews", "ratings"} {
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, &config.Service{
			Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "default", Name: name}, Hash: config.Hash(i + 1)},
			Hostname: name + ".default.svc.cluster.local", Kubernetes: true, ExportTo: config.Visibility{Public: true},
			Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)},
			Ports:     []config.ServicePort{{Name: "http", Number: 80, Protocol: config.ProtocolHTTP}},
		})
	}
	config.Put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, vs)
	ix := translate.NewIndex(b.Mesh())
	ix.Problems()
	var out []*route.RouteConfiguration
	for _, c := range ix.Classes(defaultProxy()) {
		res := translate.NewTranslator(1000).Translate(ix.Scope(c))
		for _, p := range res.Problems {
			if p.Code == "RouteInvalid" || p.Code == "NotEncodable" {
				t.Errorf("the checks let pass what Envoy refuses: %s\n%v", p, vs.Spec)
			}
		}
		for _, r := range res.Routes.Items() {
			table := &route.RouteConfiguration{}
			if err := proto.Unmarshal(r.Bytes(), table); err != nil {
				t.Fatal(err)
			}
			if err := table.ValidateAll(); err != nil {
				t.Errorf("%v\n%v", err, vs.Spec)
			}
			out = append(out, table)
		}
	}
	return out
}

func envoyTakes(t *testing.T, envoy string, listeners []json.RawMessage) {
	t.Helper()
	var bootstrap map[string]any
	if err := json.Unmarshal(bootstrapWith(t, listeners), &bootstrap); err != nil {
		t.Fatal(err)
	}
	// As the agent's bootstrap has it; Envoy's own limit is 100.
	bootstrap["layered_runtime"] = map[string]any{"layers": []any{map[string]any{
		"name": "limits", "static_layer": map[string]any{"re2.max_program_size.error_level": 32768},
	}}}
	js, err := json.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, js, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "error").CombinedOutput()
	if err != nil {
		t.Errorf("of %d route tables Envoy refuses: %v\n%s", len(listeners), err, out)
	}
}
