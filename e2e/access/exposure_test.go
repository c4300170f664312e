package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// exposure is a gateway that passes on what its hosts cover, beside it a
// namespace with a workload behind three Services: of another host, of a host
// that is covered but exported to its own namespace alone, and one that is both
// covered and seen.
const exposure = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: auto, namespace: default}
spec:
  selector: {istio: entry}
  servers:
  - port: {number: 15443, name: tls, protocol: TLS}
    hosts: ["*.default.svc.cluster.local", private.other.svc.cluster.local, open.other.svc.cluster.local]
    tls: {mode: AUTO_PASSTHROUGH}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: other}
spec: {selector: {app: guest}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: private, namespace: other, annotations: {networking.istio.io/exportTo: "."}}
spec: {selector: {app: guest}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: open, namespace: other}
spec: {selector: {app: guest}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: guest, namespace: other}
spec:
  selector: {matchLabels: {app: guest}}
  template:
    metadata: {labels: {app: guest}}
    spec: {serviceAccountName: guest, containers: [{name: c, image: c}]}
`

// TestExposure, ISTIO-SECURITY-2021-006: whatever name a client asks an
// AUTO_PASSTHROUGH gateway for, it comes to workloads behind Services that the
// server's hosts cover and its namespace may see, and to no other.
func TestExposure(t *testing.T) {
	dir := stage.Copy(t, "testdata/gateway")
	stage.Write(t, filepath.Join(dir, "exposure.yaml"), exposure)
	s := stage.StartWith(t, dir, up.Options{Mode: up.Loopback})
	at := s.At("default/auto", 15443)
	for name, want := range map[string]string{
		"outbound_.8080_._.web.default.svc.cluster.local":     "spiffe://cluster.local/ns/default/sa/web",
		"outbound_.8080_._.open.other.svc.cluster.local":      "spiffe://cluster.local/ns/other/sa/guest",
		"outbound_.8080_._.elsewhere.other.svc.cluster.local": "nobody",
		"outbound_.8080_._.private.other.svc.cluster.local":   "nobody",
		"outbound_.9999_._.web.default.svc.cluster.local":     "nobody",
		"web.default.svc.cluster.local":                       "nobody",
		"elsewhere.other.svc.cluster.local":                   "nobody",
		"anything.else":                                       "nobody",
	} {
		envoytest.Eventually(t, stage.Patience, func() string {
			if got := answersAs(t.Context(), at, name); got != want {
				return fmt.Sprintf("%s leads to %s, want %s", name, got, want)
			}
			return ""
		})
	}
}

// errSeen ends a handshake when the server has said who it is: it asks for a
// certificate that the client does not have.
var errSeen = errors.New("seen")

// answersAs is the identity in the certificate that a server shows to a client
// of the mesh that asks for a name, "nobody" if there is no answer.
func answersAs(ctx context.Context, address, name string) string {
	found := "nobody"
	ctx, cancel := context.WithTimeout(ctx, stage.Patience)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		ServerName: name, NextProtos: []string{"istio"},
		InsecureSkipVerify: true, //nolint:gosec // who answers is what is asked here
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			c, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			if found = "somebody"; len(c.URIs) == 1 {
				found = c.URIs[0].String()
			}
			return errSeen
		},
	}}
	if c, err := d.DialContext(ctx, "tcp", address); err == nil {
		_ = c.Close()
	}
	return found
}

// TestKeysOfTheInside, ISTIO-SECURITY-2026-003: nothing inside is asked for
// keys on behalf of a RequestAuthentication, directly or as its issuer's
// metadata, and tokens of that issuer are refused.
func TestKeysOfTheInside(t *testing.T) {
	a, inside := newIssuer(t, "a.example.com"), newIssuer(t, "inside.example.com")
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = fmt.Fprint(w, inside.jwks())
	}))
	defer s.Close()
	metadata := &issuer{s.URL + "/metadata", inside.key}
	bearer := func(i *issuer) string { return "Authorization: Bearer " + i.token(t, nil) }
	w := &world{Stage: stage.StartWith(t, stage.Copy(t, "testdata/mesh"), up.Options{Mode: up.Loopback}), t: t}
	w.decide([]theme{{"", authentication(a.rule(""), "  - {issuer: inside.example.com, jwksUri: "+s.URL+"/keys}\n", "  - {issuer: "+metadata.name+"}\n"), []request{
		{header: bearer(inside), want: unauthenticated}, {header: bearer(metadata), want: unauthenticated}, {header: bearer(a), want: ok}, {want: ok},
	}}})
	for _, name := range []string{inside.name, metadata.name} {
		envoytest.Eventually(t, stage.Patience, func() string { return w.unfetched(name, "an address of the inside") })
	}
	time.Sleep(200 * time.Millisecond) //nolint:forbidigo // for what must not come
	if n := asked.Load(); n != 0 {
		t.Errorf("an address inside was asked %d times", n)
	}
}
