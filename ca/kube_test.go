package ca

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// keeping is one replica's Keeper over a real API server.
type keeping struct {
	*Keeper
	t    *testing.T
	logs *observer.ObservedLogs
	stop func()
	// registry has the Keeper's metrics.
	registry *prometheus.Registry

	mu  sync.Mutex
	now time.Time
}

// keep runs a Keeper, and its rotation if paced, until the test ends.
func keep(t *testing.T, client kubernetes.Interface, ns string, phase time.Duration) *keeping {
	t.Helper()
	log, logs := observer.New(zapcore.InfoLevel)
	k := &keeping{t: t, logs: logs, now: time.Now(), registry: prometheus.NewRegistry()}
	a := NewAuthority(nil, Options{Now: k.clock})
	k.Keeper = NewKeeper(client, ns, a, zap.New(log), k.registry)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Run(ctx) })
	if phase > 0 {
		running.Go(func() {
			if err := k.Rotate(ctx, phase, phase); err != nil {
				t.Errorf("Rotate: %v", err)
			}
		})
	}
	k.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(k.stop)
	return k
}

func (k *keeping) clock() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *keeping) pass(d time.Duration) {
	k.mu.Lock()
	k.now = k.now.Add(d)
	k.mu.Unlock()
	signal(k.moved) // the clock that timers go by is another one
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// root waits for a Root that fits.
func (k *keeping) root(what string, fits func(*Root) bool) *Root {
	k.t.Helper()
	var r *Root
	envoytest.Eventually(k.t, 30*time.Second, func() string {
		if r = k.authority.Root(); r != nil && fits(r) {
			return ""
		}
		return "no root that " + what
	})
	return r
}

// refused is the gauge of a Secret.
func (k *keeping) refused(secret string) float64 {
	k.t.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pilotfish_ca_secret_refused" && m.GetLabel()[0].GetValue() == secret {
				return m.GetGauge().GetValue()
			}
		}
	}
	k.t.Fatalf("no gauge of Secret %s", secret)
	return 0
}

// problem waits until the Keeper says it.
func (k *keeping) problem(says string) {
	k.t.Helper()
	envoytest.Eventually(k.t, 30*time.Second, func() string {
		if err := k.Problem(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			return "the problem is: " + errText(err)
		}
		if n := k.refused(PlugInSecret); (n == 1) != (says != "") {
			return fmt.Sprintf("the gauge is %g", n)
		}
		return ""
	})
}

func errText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

func any1(*Root) bool { return true }

// testNamespace is a new namespace of the shared API server.
func testNamespace(t *testing.T, name string) kubernetes.Interface {
	t.Helper()
	s := kubetest.Shared(t)
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}")
	return client
}

// Replicas that start at once have one root, which their successors find.
func TestReplicasRaceForTheRoot(t *testing.T) {
	client := testNamespace(t, "race")
	var all []*keeping
	for range 5 {
		all = append(all, keep(t, client, "race", 0))
	}
	first := all[0].root("is there", any1)
	for _, k := range all[1:] {
		if r := k.root("is there", any1); !r.same(first) {
			t.Errorf("%v, another has %v", r, first)
		}
		k.stop()
	}
	all[0].stop()
	if again := keep(t, client, "race", 0).root("is there", any1); !again.same(first) {
		t.Errorf("%v after a restart, was %v", again, first)
	}
	s, err := client.CoreV1().Secrets("race").Get(t.Context(), "istio-ca-secret", metav1.GetOptions{})
	if err != nil || s.Type != "istio.io/ca-root" {
		t.Fatalf("Secret of type %q, %v", s.Type, err)
	}
	// As any other program reads it.
	if _, err := tls.X509KeyPair(s.Data["ca-cert.pem"], s.Data["ca-key.pem"]); err != nil {
		t.Error(err)
	}
}

// A root that is lost with its Secret while no replica runs is replaced, and the
// log says so; the first one of all replaces nothing.
func TestLostRoot(t *testing.T) {
	client := testNamespace(t, "lost-root")
	const loud = "the root that the mesh trusts is lost"
	k := keep(t, client, "lost-root", 0)
	before := k.root("is there", any1)
	k.stop()
	if n := strings.Count(k.said(), loud); n != 0 {
		t.Errorf("the first root: %s", k.said())
	}
	if err := client.CoreV1().Secrets("lost-root").Delete(t.Context(), "istio-ca-secret", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: BundleConfigMap}, Data: map[string]string{"root-cert.pem": string(encodeCertificates(before.roots...))}}
	if _, err := client.CoreV1().ConfigMaps("lost-root").Create(t.Context(), bundle, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	k = keep(t, client, "lost-root", 0)
	k.root("is another one", func(r *Root) bool { return !r.same(before) })
	envoytest.Eventually(t, 30*time.Second, func() string { // the watch may tell of the root before the answer does
		if n := strings.Count(k.said(), loud); n != 1 {
			return fmt.Sprintf("said %d times: %s", n, k.said())
		}
		return ""
	})
}

// said is what the log holds.
func (k *keeping) said() string {
	var lines []string
	for _, l := range k.logs.All() {
		lines = append(lines, l.Message)
	}
	return strings.Join(lines, "\n")
}

// A Secret that is deleted is written again with the same root.
func TestDeletedRoot(t *testing.T) {
	client := testNamespace(t, "deleted-root")
	k := keep(t, client, "deleted-root", 0)
	before := k.root("is there", any1)
	if err := client.CoreV1().Secrets("deleted-root").Delete(t.Context(), "istio-ca-secret", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, 30*time.Second, func() string {
		s, err := client.CoreV1().Secrets("deleted-root").Get(t.Context(), "istio-ca-secret", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if string(s.Data["ca-cert.pem"]) != string(encodeCertificates(before.chain...)) {
			t.Error("another root was written")
		}
		return ""
	})
	if !k.authority.Root().same(before) {
		t.Error("another root is in use")
	}
}

// plugged is a Secret cacerts whose signing certificate is of an intermediate.
func plugged(t *testing.T, ns string) (*corev1.Secret, *Root) {
	t.Helper()
	root, err := SelfSigned("corp")
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	now := time.Now()
	serial, _ := newSerial()
	c := signed(t, root, &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour * 24 * 365),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, key.Public())
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	own := encodeCertificates(c)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cacerts", Namespace: ns},
		Data: map[string][]byte{
			"ca-cert.pem": own, "ca-key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
			"cert-chain.pem": append(append([]byte{}, own...), encodeCertificates(root.chain...)...), "root-cert.pem": encodeCertificates(root.chain...),
		},
	}, root
}

// A plugged-in root is used whole or not at all, and never falls back to a
// root that nobody trusts.
func TestPlugIn(t *testing.T) {
	client := testNamespace(t, "plugged")
	secrets := client.CoreV1().Secrets("plugged")
	good, corp := plugged(t, "plugged")
	other, _ := plugged(t, "plugged")
	partial := good.DeepCopy()
	delete(partial.Data, "cert-chain.pem")
	delete(partial.Data, "ca-key.pem")
	if _, err := secrets.Create(t.Context(), partial, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	k := keep(t, client, "plugged", 0)
	k.problem("Secret plugged/cacerts is refused: lacks ca-key.pem, cert-chain.pem: want all of")
	if k.authority.Root() != nil {
		t.Error("has another root")
	}
	update := func(s *corev1.Secret) {
		t.Helper()
		if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update(good)
	k.problem("")
	r := k.root("signs for corp", func(r *Root) bool { return r.roots[0].Equal(corp.roots[0]) })
	chain, err := k.authority.Sign(request(t, newKey(t), uris(t)), shop, 0)
	if err != nil {
		t.Fatal(err)
	}
	if leafOf(t, chain); len(chain) != 3 {
		t.Errorf("an answer of %d elements, want leaf, intermediate, root", len(chain))
	}

	broken := map[string]struct {
		change func(map[string][]byte)
		says   string
	}{
		"another key":  {func(d map[string][]byte) { d["ca-key.pem"] = other.Data["ca-key.pem"] }, "not of the given key"},
		"another root": {func(d map[string][]byte) { d["root-cert.pem"] = other.Data["root-cert.pem"] }, "no root certificate vouches"},
		"no PEM":       {func(d map[string][]byte) { d["ca-cert.pem"] = []byte("x") }, "no PEM certificate"},
		"no key":       {func(d map[string][]byte) { d["ca-key.pem"] = d["ca-cert.pem"] }, "cannot be read"},
		"a leaf certificate": {func(d map[string][]byte) {
			key := newKey(t)
			c, err := corp.issue(&x509.Certificate{}, key.Public(), time.Hour, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			der, _ := x509.MarshalPKCS8PrivateKey(key)
			d["ca-cert.pem"], d["ca-key.pem"] = encodeCertificates(c), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		}, "no CA certificate"},
	}
	for name, b := range broken {
		t.Run(name, func(t *testing.T) {
			s := good.DeepCopy()
			b.change(s.Data)
			update(s)
			k.problem(b.says)
			if !k.authority.Root().same(r) {
				t.Error("the last good root is no longer in use")
			}
			update(good)
			k.problem("")
		})
	}
	for _, l := range k.logs.All() {
		if text := l.Message + errText(k.Problem()); strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("logs a key: %s", text)
		}
	}
	if err := secrets.Delete(t.Context(), "cacerts", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	k.problem("is gone")
	if !k.authority.Root().same(r) {
		t.Error("a deleted cacerts changes the root in use")
	}
}

// From a self-signed root to one that is plugged in, both are trusted.
func TestFromSelfSignedToPlugIn(t *testing.T) {
	client := testNamespace(t, "moving")
	k := keep(t, client, "moving", 0)
	self := k.root("is there", any1)
	s, corp := plugged(t, "moving")
	if _, err := client.CoreV1().Secrets("moving").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	k.root("trusts both", func(r *Root) bool { return r.roots[0].Equal(corp.roots[0]) && r.Trusts(self) })
}

// The root of a mesh is replaced while both are trusted.
func TestRotation(t *testing.T) {
	client := testNamespace(t, "rotation")
	k, follower := keep(t, client, "rotation", time.Hour), keep(t, client, "rotation", 0)
	old := k.root("is there", any1)
	oldLeaf, err := k.authority.Sign(request(t, newKey(t), uris(t)), shop, 0)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(what string) {
		t.Helper()
		// Of the kind of change that kubectl annotate makes.
		patch := `{"metadata":{"annotations":{"pilotfish.io/ca-rotation":"` + what + `"}}}`
		if _, err := client.CoreV1().Secrets("rotation").Patch(t.Context(), "istio-ca-secret", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	signsAndTrusts := func(r *Root, signer *x509.Certificate, roots int) bool {
		return (signer == nil || r.chain[0].Equal(signer)) && len(r.roots) == roots
	}
	operator, err := NewOperator(kubetest.Shared(t).Config(), "rotation")
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.Rotate(t.Context(), Hurry); err == nil {
		t.Error("hurries what has not begun")
	}
	if err := operator.Rotate(t.Context(), Begin); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keeping{k, follower} {
		k.root("is distributed", func(r *Root) bool { return signsAndTrusts(r, old.chain[0], 2) })
	}
	next := k.authority.Root().roots[1]
	if s, err := operator.State(t.Context()); err != nil || s.Phase != Distributing || s.PlugIn || s.Since.IsZero() {
		t.Errorf("state %+v, %v", s, err)
	}
	if err := operator.Rotate(t.Context(), Begin); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a second rotation: %v", err)
	}
	ask("begin") // past the check: the leader refuses it
	envoytest.Eventually(t, 30*time.Second, func() string {
		for _, l := range k.logs.All() {
			if l.ContextMap()["error"] == "a rotation is under way (distributing): it has to end before another begins" {
				return ""
			}
		}
		return "not refused"
	})
	k.pass(59 * time.Minute)
	if r := k.authority.Root(); !signsAndTrusts(r, old.chain[0], 2) {
		t.Errorf("went on before its time: %v", r)
	}
	k.pass(2 * time.Minute)
	for _, k := range []*keeping{k, follower} {
		r := k.root("signs", func(r *Root) bool { return signsAndTrusts(r, next, 2) })
		pool, _ := k.authority.Clients()
		block, _ := pem.Decode([]byte(oldLeaf[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%v no longer trusts certificates of the old root: %v", r, err)
		}
	}
	if err := operator.Rotate(t.Context(), Hurry); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keeping{k, follower} {
		k.root("is alone", func(r *Root) bool { return signsAndTrusts(r, next, 1) })
	}
	s, err := client.CoreV1().Secrets("rotation").Get(t.Context(), "istio-ca-secret", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Data) != 2 || s.Annotations["pilotfish.io/ca-phase"] != "steady" || s.Annotations["pilotfish.io/ca-rotation"] != "" {
		t.Errorf("the Secret has %d keys and annotations %v after the rotation", len(s.Data), s.Annotations)
	}
	// Nobody has to think of it: a root near its end is rotated unasked.
	k.pass(selfSignedLifetime * 5 / 6)
	k.root("is distributed", func(r *Root) bool { return signsAndTrusts(r, next, 2) })
}

// signed is a certificate of root, for a test that needs an unusual one.
func signed(t *testing.T, r *Root, template *x509.Certificate, key any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, r.chain[0], key, r.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
