package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func inline(s string) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: []byte(s)}}
}

// No page shows what of a Secret is secret, whatever kind it is.
func TestDumpsHideSecrets(t *testing.T) {
	const secret = "do-not-show-this"
	var sent snapshot.Sent
	sent.Type = translate.SecretType
	for name, s := range map[string]*tls.Secret{
		"certificate": {Type: &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{
			CertificateChain: inline("public-chain"), PrivateKey: inline(secret), Password: inline(secret), Pkcs12: inline(secret),
		}}},
		"tickets": {Type: &tls.Secret_SessionTicketKeys{SessionTicketKeys: &tls.TlsSessionTicketKeys{Keys: []*core.DataSource{inline(secret)}}}},
		"generic": {Type: &tls.Secret_GenericSecret{GenericSecret: &tls.GenericSecret{Secret: inline(secret)}}},
		"roots":   {Type: &tls.Secret_ValidationContext{ValidationContext: &tls.CertificateValidationContext{TrustedCa: inline("public-roots")}}},
	} {
		body, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		sent.Resources = append(sent.Resources, &translate.Resource{Name: name, Body: [][]byte{body}})
	}
	dump, err := (&hidden{}).dumpOf([]snapshot.Sent{sent}, nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := protojson.Format(dump)
	for _, hidden := range []string{secret, "ZG8tbm90LXNob3ctdGhpcw"} { // also in base64
		if strings.Contains(shown, hidden) {
			t.Errorf("shows a secret:\n%s", shown)
		}
	}
	for _, name := range []string{"certificate", "tickets", "generic", "roots", "cHVibGljLWNoYWlu", "cHVibGljLXJvb3Rz", "[redacted]"} {
		if !strings.Contains(shown, name) {
			t.Errorf("does not show %s:\n%s", name, shown)
		}
	}
}

// Pages answer this machine, and others to callers who prove who they are: of the
// control plane's namespace all of them, of others those about their own proxies.
func TestWhoMaySeePages(t *testing.T) {
	server := kubetest.Shared(t)
	server.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: tool, namespace: istio-system}}\n---\n"+
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: tool, namespace: shop}}")
	client, err := kubernetes.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	plane := NewPlane(nil, snapshot.Options{})
	defer plane.Server.Close()
	callers := &ca.Authenticator{Tokens: ca.NewReviewer(client.AuthenticationV1().TokenReviews()), Domains: func() []string { return []string{"cluster.local"} }}
	a := newAdmission(plane, callers, nil, zap.NewNop())
	token := func(namespace, audience string) string {
		t.Helper()
		got, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "tool",
			&authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{audience}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + got.Status.Token
	}
	system, shop := token("istio-system", "istio-ca"), token("shop", "istio-ca")
	pages := Pages{Plane: plane, Pprof: true, Visitor: a.visitor, Namespaces: []string{"istio-system"}}
	proving, local := pages.Monitoring(), (&Pages{Plane: plane}).Monitoring()
	open := (&Pages{Plane: plane, Pprof: true, Open: true, Page: func(func() *config.Mesh) http.Handler { return http.NotFoundHandler() }}).Monitoring()
	const far = "10.0.0.1:1234"
	for name, c := range map[string]struct {
		pages                   http.Handler
		from, page, credentials string
		want                    int
	}{
		"this machine":                  {proving, "127.0.0.1:1234", "/debug/syncz", "", http.StatusOK},
		"this machine by IPv6":          {proving, "[::1]:1234", "/debug/syncz", "", http.StatusOK},
		"this machine, mapped":          {proving, "[::ffff:127.0.0.1]:1", "/debug/syncz", "", http.StatusOK},
		"nowhere":                       {proving, "", "/debug/syncz", "", http.StatusUnauthorized},
		"another without a credential":  {proving, far, "/debug/syncz", "", http.StatusUnauthorized},
		"a link-local one":              {proving, "[fe80::1%eth0]:1", "/debug/syncz", "", http.StatusUnauthorized},
		"with nonsense":                 {proving, far, "/debug/syncz", "Bearer x.y.z", http.StatusUnauthorized},
		"with a password":               {proving, far, "/debug/syncz", "Basic YTpi", http.StatusUnauthorized},
		"for another audience":          {proving, far, "/debug/syncz", token("istio-system", "vault"), http.StatusUnauthorized},
		"the control plane's namespace": {proving, far, "/debug/syncz", system, http.StatusOK},
		"its profiles":                  {proving, far, "/debug/pprof/cmdline", system, http.StatusOK},
		"another namespace":             {proving, far, "/debug/syncz", shop, http.StatusForbidden},
		"its view of configuration":     {proving, far, "/debug/configz", shop, http.StatusForbidden},
		"its profiles of the process":   {proving, far, "/debug/pprof/cmdline", shop, http.StatusForbidden},
		"its own proxies":               {proving, far, "/debug/config_dump?proxyID=a.shop", shop, http.StatusNotFound},
		"by a way around":               {proving, far, "/debug/config_dump/../syncz", shop, http.StatusTemporaryRedirect},
		"metrics":                       {proving, far, "/metrics", "", http.StatusOK},
		"everybody, where it is open":   {open, far, "/debug/syncz", "", http.StatusOK},
		"profiles are not":              {open, far, "/debug/pprof/cmdline", "", http.StatusUnauthorized},
		"nor is the configuration":      {open, far, "/config/", "", http.StatusUnauthorized},
		"where nobody can prove it":     {local, far, "/debug/syncz", system, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, c.page, nil)
			r.RemoteAddr = c.from
			if c.credentials != "" {
				r.Header.Set("Authorization", c.credentials)
			}
			w := httptest.NewRecorder()
			c.pages.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("answered %d, want %d: %.200s", w.Code, c.want, w.Body)
			}
		})
	}
}

// Over ADS everybody may ask where debug information is open, also about
// proxies of other namespaces.
func TestOpenTools(t *testing.T) {
	nobody := &snapshot.Question{Proxy: &config.Proxy{Namespace: "shop"}}
	for _, open := range []bool{false, true} {
		namespace, err := (&tools{namespaces: []string{"istio-system"}, open: open}).caller(nobody)
		if (err == nil) != open || namespace != "" {
			t.Errorf("open %v: somebody who has proven nothing sees namespace %q, %v", open, namespace, err)
		}
	}
}
