package jwks_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/jwks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const keys = `{"keys":[{"kty":"EC","kid":"%s","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// mesh has one RequestAuthentication with these rules.
func mesh(rules ...*security.JWTRule) *config.Mesh {
	b := config.NewBuilder(nil)
	config.Put(b, func(m *config.Mesh) *config.Index[*config.RequestAuthentication] { return &m.RequestAuthentications }, &config.RequestAuthentication{
		Meta: config.Meta{Key: config.Key{Kind: "RequestAuthentication", Namespace: "default", Name: "jwt"}},
		Spec: &security.RequestAuthentication{JwtRules: rules},
	})
	return b.Mesh()
}

func fetcher(t *testing.T, o jwks.Options) *jwks.Fetcher {
	t.Helper()
	f := jwks.New(o)
	t.Cleanup(f.Close)
	return f
}

func changed(t *testing.T, f *jwks.Fetcher) {
	t.Helper()
	select {
	case <-f.Changed():
	case <-time.After(20 * time.Second):
		t.Fatal("no change")
	}
}

func get(m *config.Mesh, uri string) string {
	set, _ := m.KeySets.Get(uri)
	return set.JSON
}

// TestKeysComeAndStay: the first Mesh waits for its keys, later ones are told of
// new ones, and keys stay while their issuer is away.
func TestKeysComeAndStay(t *testing.T) {
	var answer atomic.Value
	answer.Store(fmt.Sprintf(keys, "one"))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, _ := answer.Load().(string)
		if text == "" {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		_, _ = fmt.Fprint(w, text)
	}))
	defer s.Close()
	f := fetcher(t, jwks.Options{Internal: true, Refresh: 5 * time.Millisecond, Retry: time.Millisecond})
	m := mesh(&security.JWTRule{Issuer: "a", JwksUri: s.URL})
	if got := get(f.With(t.Context(), m), s.URL); !strings.Contains(got, `"kid":"one"`) {
		t.Fatalf("the first Mesh has keys %q", got)
	}
	answer.Store(fmt.Sprintf(keys, "two"))
	changed(t, f) // of the first keys
	changed(t, f)
	if got := get(f.With(t.Context(), m), s.URL); !strings.Contains(got, `"kid":"two"`) {
		t.Fatalf("keys after a change: %q", got)
	}
	answer.Store("")
	for len(f.Problems(m)) == 0 {
		<-time.After(time.Millisecond)
	}
	if got := get(f.With(t.Context(), m), s.URL); !strings.Contains(got, `"kid":"two"`) {
		t.Errorf("keys while the issuer is away: %q", got)
	}
	if p := f.Problems(m)[0]; !strings.Contains(p.Message, "502") || !strings.Contains(p.Message, "keys of before stay") {
		t.Errorf("problem: %v", p)
	}
	if out := f.With(t.Context(), mesh()); get(out, s.URL) != "" {
		t.Error("keys that no rule names any more stay")
	}
}

// TestIssuersMetadata: without jwksUri the issuer says where its keys are.
func TestIssuersMetadata(t *testing.T) {
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/realm/.well-known/openid-configuration":
			_, _ = fmt.Fprintf(w, `{"jwks_uri": %q}`, s.URL+"/keys")
		case "/keys":
			_, _ = fmt.Fprintf(w, keys, "k")
		}
	}))
	defer s.Close()
	f := fetcher(t, jwks.Options{Internal: true})
	issuer := s.URL + "/realm/"
	uri, metadata := config.KeySetURI(issuer, "")
	if got := get(f.With(t.Context(), mesh(&security.JWTRule{Issuer: issuer})), uri); !metadata || !strings.Contains(got, `"kid":"k"`) {
		t.Errorf("keys %q", got)
	}
}

// TestInsideIsNotAsked: neither an address, nor a name, nor a redirect leads to
// the inside.
func TestInsideIsNotAsked(t *testing.T) {
	asked := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer s.Close()
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	f := fetcher(t, jwks.Options{})
	var rules []*security.JWTRule
	for i, uri := range []string{
		s.URL, "http://localhost" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port, "http://0" + port,
		"http://169.254.169.254/latest/meta-data", "http://10.0.0.1", "http://192.168.0.1", "http://100.64.0.1", "http://[fd00::1]", "http://[fe80::1]", "http://[64:ff9b::7f00:1]",
	} {
		rules = append(rules, &security.JWTRule{Issuer: fmt.Sprint(i), JwksUri: uri})
	}
	m := mesh(rules...)
	out := f.With(t.Context(), m)
	problems := map[string]string{}
	for _, p := range f.Problems(m) {
		problems[p.Message] = p.Message
	}
	if len(problems) != len(rules) {
		t.Errorf("%d of %d places were refused", len(problems), len(rules))
	}
	for p := range problems {
		if !strings.Contains(p, "address of the inside") && !strings.Contains(p, "no such host") {
			t.Errorf("refused for another reason: %s", p)
		}
	}
	if len(out.KeySets.ByURI) > 0 || len(asked) > 0 {
		t.Errorf("keys %v, asked %d times", out.KeySets.ByURI, len(asked))
	}
}

// TestBadAnswers: what is no key set lets nobody in, and costs others nothing.
func TestBadAnswers(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = fmt.Fprintf(w, keys, "k")
		case "/long":
			_, _ = fmt.Fprint(w, strings.Repeat(" ", 2<<20), fmt.Sprintf(keys, "k"))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/slow":
			<-hang
		default:
			_, _ = fmt.Fprint(w, r.URL.Query().Get("a"))
		}
	}))
	defer s.Close()
	defer close(hang)
	var rules []*security.JWTRule
	for i, path := range []string{
		"/good", "/long", "/loop", "/file", "/slow", "/?a=", "/?a=nonsense", "/?a={}", `/?a={"keys":[]}`, `/?a={"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
		`/?a={"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
	} {
		rules = append(rules, &security.JWTRule{Issuer: fmt.Sprint(i), JwksUri: s.URL + path, Timeout: durationpb.New(200 * time.Millisecond)})
	}
	f := fetcher(t, jwks.Options{Internal: true})
	m := mesh(rules...)
	out := f.With(context.Background(), m)
	if n := len(f.Problems(m)); n != len(rules)-1 {
		t.Errorf("%d problems, want %d: %v", n, len(rules)-1, f.Problems(m))
	}
	if len(out.KeySets.ByURI) != 1 || !strings.Contains(get(out, s.URL+"/good"), `"kid":"k"`) {
		t.Errorf("keys %v, want those of the good issuer", out.KeySets.ByURI)
	}
}
