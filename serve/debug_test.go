package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

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
	dump, err := dumpOf([]snapshot.Sent{sent}, nil)
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

func TestDebugPagesAnswerThisMachineOnly(t *testing.T) {
	h := onlyLocal(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for from, want := range map[string]int{
		"127.0.0.1:1234": http.StatusOK, "[::1]:1234": http.StatusOK, "[::ffff:127.0.0.1]:1": http.StatusOK,
		"10.0.0.1:1234": http.StatusUnauthorized, "[fe80::1%eth0]:1": http.StatusUnauthorized, "": http.StatusUnauthorized,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/configz", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("a client at %q is answered %d, want %d", from, w.Code, want)
		}
	}
}
