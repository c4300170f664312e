package mesh

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// peerAuthentication is that of the workload backend.
func peerAuthentication(mode string) string {
	return fmt.Sprintf(`
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: backend}
spec:
  selector: {matchLabels: {app: backend}}
  mtls: {mode: %s}
`, mode)
}

// capturing is a container beside the application that can see the pod's wire.
const capturing = `
      - name: wire
        image: %s
        args: [drive]
        readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
        securityContext: {runAsUser: 0, capabilities: {add: [NET_RAW]}}
`

// TestMutualTLS: PERMISSIVE takes both, and sidecars speak TLS to each other
// of themselves; STRICT refuses plaintext. The wire's bytes and the certificate
// say so.
func TestMutualTLS(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "mtls", "istio-injection=enabled")
	w.namespace(t, "plain")
	backend := strings.Replace(application("backend", "v1", 1), "---\n", fmt.Sprintf(strings.TrimPrefix(capturing, "\n"), appImage), 1)
	backend = strings.Replace(backend, "    metadata:\n      labels: {app: backend, version: v1}",
		"    metadata:\n      labels: {app: backend, version: v1}\n      annotations: {traffic.sidecar.istio.io/excludeInboundPorts: \"9000\"}", 1)
	w.apply(t, "mtls", service("backend")+backend)
	w.apply(t, "mtls", peerAuthentication("PERMISSIVE"))
	inside, outside := w.drive(t, "mtls", "client"), w.drive(t, "plain", "client")
	pod := w.ready(t, "mtls", "app=backend", 1)[0]
	wire := &driver{w, "mtls", pod.Name}

	const backendURL = "http://backend.mtls/"
	inside.reaches(t, backendURL)
	outside.reaches(t, backendURL)
	inside.start(t, "steady", load{URL: backendURL, Rate: 20})

	if text := w.onWire(t, wire, inside, backendURL); strings.Contains(text, "GET / HTTP") || !strings.Contains(text, "\x17\x03\x03") {
		t.Error("between sidecars the wire carries plaintext")
	}
	if text := w.onWire(t, wire, outside, backendURL); !strings.Contains(text, "X-Mark") {
		t.Error("the plain client's request was not seen: the capture proves nothing")
	}

	w.apply(t, "mtls", peerAuthentication("STRICT"))
	w.await(t, "STRICT to refuse plaintext", func(ctx context.Context) error {
		f, err := outside.fetch(ctx, backendURL, nil)
		if err != nil {
			return err
		}
		if f.Status != 0 {
			return fmt.Errorf("answered %d", f.Status)
		}
		return nil
	})
	inside.reaches(t, backendURL)

	cert := w.peerCertificate(t, outside, "backend.mtls:80")
	if want := "spiffe://cluster.local/ns/mtls/sa/default"; len(cert.URIs) != 1 || cert.URIs[0].String() != want {
		t.Errorf("the backend's certificate is for %v, want %s", cert.URIs, want)
	}
	inside.end(t, "steady")
}

// onWire makes requests and returns what the backend's wire carried meanwhile.
func (w *world) onWire(t *testing.T, wire, client *driver, target string) string {
	t.Helper()
	type result struct {
		text []byte
		err  error
	}
	captured := make(chan result, 1)
	go func() {
		b, err := wire.call(t.Context(), "GET", "/capture?port=8080&for=2s", nil)
		captured <- result{b, err}
	}()
	for {
		select {
		case r := <-captured:
			if r.err != nil {
				t.Fatalf("capture: %v: %s", r.err, r.text)
			}
			var all bytes.Buffer
			for _, line := range strings.Fields(string(r.text)) {
				b, err := hex.DecodeString(line)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(b)
			}
			return all.String()
		default:
			if _, err := client.fetch(t.Context(), target, map[string]string{"X-Mark": "here"}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// peerCertificate is what a server shows to a client that offers the mesh's
// protocol; the handshake need not succeed for it.
func (w *world) peerCertificate(t *testing.T, d *driver, address string) *x509.Certificate {
	t.Helper()
	var cert *x509.Certificate
	w.await(t, "a certificate of "+address, func(ctx context.Context) error {
		b, err := d.call(ctx, "POST", "/tls?address="+address+"&alpn=istio", nil)
		if err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return errors.New("no certificate was shown")
		}
		cert, err = x509.ParseCertificate(block.Bytes)
		return err
	})
	return cert
}

// signing is what e2e/app's sign takes.
type signing struct {
	Address         string `json:"address"`
	Name            string `json:"name"`
	Root            string `json:"root"`
	Token           string `json:"token"`
	CSR             string `json:"csr"`
	LifetimeSeconds int64  `json:"lifetimeSeconds"`
}

func csr(t *testing.T, identity string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// TestThieves: a token gets a certificate for its own identity and for no
// other; a token of another audience, a made-up one, and those of a pod that has
// gone and of another pod get none.
func TestThieves(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "thieves")
	w.namespace(t, "victims")
	thief := w.drive(t, "thieves", "thief")
	w.apply(t, "victims", driverPod("gone", ""))
	w.apply(t, "victims", driverPod("alive", ""))
	gone, alive := w.ready(t, "victims", "app=gone", 1)[0], w.ready(t, "victims", "app=alive", 1)[0]
	token := func(namespace, audience string, pod *authenticationv1.BoundObjectReference) string {
		t.Helper()
		seconds := int64(3600)
		r, err := w.kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: &seconds, BoundObjectRef: pod},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Token
	}
	sign := func(token, identity string) (string, error) {
		root, err := w.kube.CoreV1().ConfigMaps("thieves").Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		b, err := thief.call(t.Context(), "POST", "/sign", signing{
			Address: "istiod.istio-system.svc:15012", Name: "istiod.istio-system.svc", Root: root.Data["root-cert.pem"],
			Token: token, CSR: csr(t, identity), LifetimeSeconds: 3600,
		})
		return string(b), err
	}
	const victim, own = "spiffe://cluster.local/ns/victims/sa/default", "spiffe://cluster.local/ns/thieves/sa/default"

	chain, err := sign(token("thieves", "istio-ca", nil), own)
	if err != nil {
		t.Fatalf("its own token gets no certificate: %v: %s", err, chain)
	}
	block, _ := pem.Decode([]byte(chain))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != own || cert.NotAfter.After(time.Now().Add(25*time.Hour)) {
		t.Errorf("certificate for %v until %v", cert.URIs, cert.NotAfter)
	}

	of := func(p corev1.Pod) string {
		return token("victims", "istio-ca", &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID})
	}
	ofGone := of(gone)
	w.remove(t, "victims", "pod/gone")
	for name, try := range map[string]struct{ token, identity string }{
		"another's identity":               {token("thieves", "istio-ca", nil), victim},
		"another audience":                 {token("victims", "https://kubernetes.default.svc.cluster.local", nil), victim},
		"a made-up token":                  {"not.a.token", victim},
		"no token":                         {"", victim},
		"the token of a pod that has gone": {ofGone, victim},
		"the token of another pod":         {of(alive), victim},
	} {
		answer, err := sign(try.token, try.identity)
		if err == nil {
			block, _ := pem.Decode([]byte(answer))
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if cert.URIs[0].String() == victim {
				t.Errorf("%s: signed for %v", name, cert.URIs)
			}
			continue
		}
		var status metav1.Status
		_ = json.Unmarshal([]byte(answer), &status)
		if !strings.Contains(answer, "Unauthenticated") && !strings.Contains(answer, "PermissionDenied") {
			t.Errorf("%s: refused for another reason: %s", name, answer)
		}
	}
}
