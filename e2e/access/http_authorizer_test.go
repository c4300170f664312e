package access

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// httpAuthorizer answers what the last header X-Decide of a check asks for,
// and says what it was asked.
type httpAuthorizer struct {
	mu    sync.Mutex
	asked []string
	end   chan struct{}
}

func (a *httpAuthorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s %s host=%s body=%q", r.Method, r.RequestURI, r.Host, body)
	for name, values := range r.Header {
		_, _ = fmt.Fprintf(&text, " %s=%s", strings.ToLower(name), strings.Join(values, ","))
	}
	a.mu.Lock()
	a.asked = append(a.asked, text.String())
	a.mu.Unlock()
	h := w.Header()
	h.Set("X-Decided", "by-the-authorizer")
	h.Set("X-Private", "not-for-others")
	h.Set("X-Route", "other")
	switch {
	case strings.Contains(r.RequestURI, "slow"):
		select {
		case <-r.Context().Done():
		case <-a.end:
		}
	case strings.Contains(r.RequestURI, "refuse"):
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "the authorizer's words")
	case strings.Contains(r.RequestURI, "fail"):
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// told is what the authorizer was asked about a path, "" if it was not.
func (a *httpAuthorizer) told(path string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(a.asked) - 1; i >= 0; i-- {
		if strings.Contains(a.asked[i], path+" ") {
			return a.asked[i]
		}
	}
	return ""
}

// startHTTPAuthorizer returns it with the YAML of a provider of that name.
func startHTTPAuthorizer(t *testing.T) (a *httpAuthorizer, with func(settings string) string) {
	t.Helper()
	a = &httpAuthorizer{end: make(chan struct{})}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(a.end) })
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return a, func(settings string) string { return provider("envoyExtAuthzHttp", at.Port(), settings) }
}

// provider is the YAML of a provider of a kind, at a port of this machine, with
// more settings.
func provider(kind, port, settings string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: ask
      %[3]s: {service: ask.example.com, port: %[1]s, %[2]s}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ask, namespace: default}
spec:
  hosts: [ask.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{name: port, number: %[1]s, protocol: %[4]s}]
  endpoints: [{address: 127.0.0.1}]
`, port, settings, kind, map[string]string{"envoyExtAuthzHttp": "HTTP", "envoyExtAuthzGrpc": "GRPC"}[kind])
}

const askAbout = "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: default}\nspec: {selector: {matchLabels: {%s}}, action: CUSTOM, provider: {name: ask}, rules: [{to: [{operation: {paths: ['/ask*'], ports: ['%s']}}]}]}\n"

// TestHTTPAuthorizer: every setting of an HTTP provider, seen from all three
// sides: the client, the authorizer, and the application.
func TestHTTPAuthorizer(t *testing.T) {
	a, provider := startHTTPAuthorizer(t)
	about := fmt.Sprintf(askAbout, "app: web", "8080")
	w := start(t)
	// with tries requests under settings, and returns what the authorizer was
	// told about a path.
	with := func(settings, path string, requests ...request) string {
		w.decide([]theme{{settings, provider(settings) + about, requests}})
		return a.told(path)
	}
	has := func(text string, want, not []string) {
		t.Helper()
		for _, x := range want {
			if !strings.Contains(text, x) {
				t.Errorf("the authorizer was told %q, want %q in it", text, x)
			}
		}
		for _, x := range not {
			if strings.Contains(text, x) {
				t.Errorf("the authorizer was told %q, want no %q in it", text, x)
			}
		}
	}
	const sent = "X-A: one\nX-Bee: two\nX-C: three\nAuthorization: Basic eDp5\nX-Fixed: forged"

	has(with("timeout: 10s", "/ask/1",
		request{path: "/ask/1?q=1", header: sent, method: "POST", body: "hello", want: ok, seen: `"X-A":["one"]`, unseen: "by-the-authorizer"},
		request{path: "/ask/refuse", want: "401", seen: "the authorizer's words"},
		request{path: "/other/refuse", want: ok}, request{bytes: "hello there", want: ok},
		request{path: "/ask/fail", want: denied}, // 5xx is no decision, so it is refused
	), nil, nil)
	has(a.told("/ask/1?q=1"), []string{"POST /ask/1?q=1 host=web", "authorization=Basic eDp5", `body=""`}, []string{"x-a=", "x-bee="})
	if told := a.told("/other/refuse"); told != "" {
		t.Errorf("the authorizer was asked about what no policy names: %s", told)
	}
	has(with("pathPrefix: /check", "/check/ask/2", request{path: "/ask/2", want: ok}), []string{"GET /check/ask/2 "}, nil)
	has(with("includeRequestHeadersInCheck: [x-a, 'x-b*'], includeAdditionalHeadersInCheck: {x-fixed: always, x-more: also}", "/ask/3",
		request{path: "/ask/3", header: sent, want: ok}),
		[]string{"x-a=one", "x-bee=two", "x-fixed=always", "x-more=also"}, []string{"x-c=", "forged"})
	has(with("includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}", "/ask/4",
		request{path: "/ask/4", method: "POST", body: "0123456789abcdef", want: ok, seen: `"bodyBytes":16`}), []string{`body="0123456789"`}, nil)
	has(with("includeRequestBodyInCheck: {maxRequestBytes: 10}", "/ask/5",
		request{path: "/ask/5", method: "POST", body: "0123456789abcdef", want: "413"}, request{path: "/ask/6", method: "POST", body: "01234", want: ok, seen: `"bodyBytes":5`}), nil, nil)
	has(a.told("/ask/6"), []string{`body="01234"`}, nil)
	with("headersToUpstreamOnAllow: [x-decided]", "",
		request{path: "/ask/7", header: "X-Decided: forged", want: ok, seen: `"X-Decided":["by-the-authorizer"]`, unseen: "forged"},
		request{path: "/ask/7", want: ok, seen: `"X-Decided":["by-the-authorizer"]`, unseen: "not-for-others"})
	with("headersToDownstreamOnAllow: [x-decided]", "",
		request{path: "/ask/8", want: ok, seen: "x-decided: by-the-authorizer", unseen: "not-for-others"}, request{path: "/ask/refuse", want: "401"})
	with("headersToDownstreamOnDeny: [x-decided]", "",
		request{path: "/ask/refuse", want: "401", seen: "x-decided: by-the-authorizer", unseen: "not-for-others"}, request{path: "/ask/9", want: ok, unseen: "by-the-authorizer"})
	with("timeout: 0.2s, statusOnError: '503'", "",
		request{path: "/ask/slow", want: "503"}, request{path: "/ask/fail", want: "503"}, request{path: "/ask/refuse", want: "401"}, request{path: "/ask/10", want: ok})
	with("timeout: 0.2s, failOpen: true", "",
		request{path: "/ask/slow", want: ok}, request{path: "/ask/fail", want: ok}, request{path: "/ask/refuse", want: "401"})
}

// TestClearRouteCache: a route is chosen anew after the authorizer has changed
// what it depends on, only if the provider says so.
func TestClearRouteCache(t *testing.T) {
	_, byHTTP := startHTTPAuthorizer(t)
	_, port := startAuthorizer(t)
	byGRPC := func(settings string) string { return provider("envoyExtAuthzGrpc", port, settings) }
	about := routed("[{headers: {x-route: {exact: other}}}]") + strings.Replace(fmt.Sprintf(askAbout, "istio: entry", ""), ", ports: ['']", "", 1)
	kept := []request{{path: "/ask", want: ok, seen: toWeb}, {path: "/ask/refuse", want: unauthenticated}}
	cleared := []request{{path: "/ask", want: ok, seen: toOther}, {path: "/", want: ok, seen: toWeb}, {path: "/ask/refuse", want: unauthenticated}}
	startGateway(t).decide([]theme{
		{"HTTP, kept", byHTTP("headersToUpstreamOnAllow: [x-route]") + about, kept},
		{"HTTP, cleared", byHTTP("headersToUpstreamOnAllow: [x-route], clearRouteCache: true") + about, cleared},
		{"gRPC, kept", byGRPC("timeout: 10s") + about, kept},
		{"gRPC, cleared", byGRPC("clearRouteCache: true") + about, cleared},
	})
}
