package judge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
	local "github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/meshtest/live"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// TestMain: processes of a mesh are this test binary in another role.
func TestMain(m *testing.M) { local.Main(m) }

// way is a whole mesh of real Envoys, whose sidecars take and give
// certificates: a request goes all of its way.
type way struct {
	*local.Stage
	t     *testing.T
	world *simulate.World
	real  *live.Engine
	drawn string // the configuration in effect
}

func newWay(t *testing.T) *way {
	t.Helper()
	local.NeedNamespaces(t)
	dir := local.Copy(t, "testdata/mesh")
	server, err := pki.Root("gateway", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	authority, revoked := issuer.Authority()
	secrets := fmt.Sprintf(gatewaySecrets, server.Cert, server.KeyPEM, authority, revoked)
	for name, text := range map[string]string{"secret.yaml": secrets, "drawn.yaml": gatewayOfAll} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &way{Stage: local.StartWith(t, dir, up.Options{Mode: up.Namespaces, Note: func(string) {}}), t: t}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, p := range w.Plane().Problems() {
			if p.Severity == config.Error {
				t.Log(p)
			}
		}
		if b, err := os.ReadFile(filepath.Join(dir, "drawn.yaml")); err == nil {
			t.Logf("the last configuration:\n%s", b)
		}
	})
	return w
}

// gatewaySecrets are the gateway's certificate, and whom it trusts: as a part of
// the certificate's Secret, with a revocation list, and as a Secret of its own.
const gatewaySecrets = `apiVersion: v1
kind: Secret
metadata: {name: gw, namespace: a}
type: kubernetes.io/tls
stringData: {tls.crt: %[1]q, tls.key: %[2]q}
---
apiVersion: v1
kind: Secret
metadata: {name: gw-clients, namespace: a}
stringData: {tls.crt: %[1]q, tls.key: %[2]q, ca.crt: %[3]q}
---
apiVersion: v1
kind: Secret
metadata: {name: gw-revokes, namespace: a}
stringData: {tls.crt: %[1]q, tls.key: %[2]q, ca.crt: %[3]q, ca.crl: %[4]q}
---
apiVersion: v1
kind: Secret
metadata: {name: authority-cacert, namespace: a}
stringData: {ca.crt: %[3]q}
`

// gatewayOfAll has a server of each kind. Its ports stay, its servers are
// drawn.
const gatewayOfAll = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: a}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.test"], tls: {mode: SIMPLE, credentialName: gw}}
  - {port: {number: 8444, name: https-mesh, protocol: HTTPS}, hosts: ["*.test"], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
  - {port: {number: 9443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
  - {port: {number: 8445, name: https-clients, protocol: HTTPS}, hosts: ["*.test"], tls: {mode: MUTUAL, credentialName: gw-clients}}
`

// put makes a configuration the one in effect.
func (w *way) put(objects []object) {
	w.t.Helper()
	if text := texts(objects); text != w.drawn { // the same would be no change
		w.Delivered(func() { w.Write("drawn.yaml", text) })
		w.drawn = text
	}
	m := w.Plane().Cache.Mesh() // what waits for what it names is not in effect
	if w.world == nil {
		w.world = simulate.NewWorld(m)
	} else {
		w.world = w.world.With(m)
	}
	w.real = live.Over(w.Mesh, w.world, issuer)
}

// disagreement is where the real Envoys do something else than the simulator
// says, for longer than it takes to settle; or "".
func (w *way) disagreement(q *simulate.Query) string {
	said, err := w.world.Ask(q)
	if err != nil {
		return err.Error()
	}
	deadline := time.After(settle)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		why := ""
		if seen, err := w.real.Observe(q, 1); err != nil {
			why = err.Error()
		} else {
			why = differsWay(said, seen)
		}
		if why == "" {
			return ""
		}
		select {
		case <-again.C:
		case <-deadline:
			return why
		}
	}
}

// allowedUnknown is what the simulator may say that it does not know: the
// authorizer of this mesh allows everything, as it is taken to.
const allowedUnknown = "asks an authorization service, which is taken to allow"

// differsWay compares where one request went with what the simulator says.
func differsWay(said, seen *simulate.Answer) string {
	for _, u := range said.Unknown {
		if !strings.Contains(u, allowedUnknown) {
			return fmt.Sprintf("the simulator does not know %q", u)
		}
	}
	got := &seen.Results[0]
	var wants []string
	for i := range said.Results {
		want := &said.Results[i]
		if want.Percent == 0 {
			continue
		}
		why := differsEnd(want, got)
		if why == "" {
			why = differsText(replyOf(said, want), seen.Hop.Reply)
		}
		if why == "" {
			return ""
		}
		wants = append(wants, why)
	}
	return strings.Join(wants, "\n  or ")
}

// replyOf is the answer that the client's own proxy gives; nil for others.
func replyOf(a *simulate.Answer, r *simulate.Result) *simulate.Reply {
	if a.Hop.Reply == nil || r.By != a.Hop.Proxy {
		return nil
	}
	return a.Hop.Reply
}

func differsText(want, got *simulate.Reply) string {
	switch {
	case want == nil || got == nil:
	case want.Location != got.Location:
		return fmt.Sprintf("wants location %q, is %q", want.Location, got.Location)
	case want.Body != "" && want.Body != got.Body && got.Body != "":
		return fmt.Sprintf("wants body %q, is %q", want.Body, got.Body)
	}
	return ""
}

func endText(r *simulate.Result) string {
	if !r.Delivered {
		return fmt.Sprintf("%d (%s)", r.Status, r.Reason)
	}
	return fmt.Sprintf("%s %s by %s", r.Workload, r.Labels["version"], r.Security)
}

func differsEnd(want, got *simulate.Result) string {
	is := endText(got)
	switch {
	case want.Delivered != got.Delivered || want.Workload != got.Workload || want.Labels["version"] != got.Labels["version"],
		got.Security != "" && want.Security != got.Security, want.Status != got.Status:
		return fmt.Sprintf("wants %s, is %s", endText(want), is)
	case want.Sent == nil || got.Sent == nil:
		return ""
	case want.Sent.Path != got.Sent.Path || want.Sent.Authority != got.Sent.Authority || want.Sent.Method != got.Sent.Method:
		return fmt.Sprintf("wants %s %s%s sent, is %s %s%s", want.Sent.Method, want.Sent.Authority, want.Sent.Path, got.Sent.Method, got.Sent.Authority, got.Sent.Path)
	}
	for _, name := range seenHeaders {
		is, isThere := got.Sent.HeaderValue(name)
		should, shouldBe := want.Sent.HeaderValue(name)
		if name == "x-payload" { // whose order nobody promises
			is, should = "", ""
		}
		if should != is || shouldBe != isThere {
			return fmt.Sprintf("wants header %s %q, is %q", name, should, is)
		}
	}
	return ""
}

// seenHeaders are those of requests that are compared.
var seenHeaders = []string{"x-a", "x-b", "x-s", "x-d", "x-claim", "x-payload", "x-token", "cookie", "authorization"}

// TestWholeWay compares where requests and connections end that go all of
// their way. WAY_PAIRS and WAY_SEED in the environment say how many at least,
// and of which seed: it goes on until every field of the API that a request can
// show decided one.
func TestWholeWay(t *testing.T) {
	pairs, seed := envoytest.Setting(t, "WAY_PAIRS", 2000), envoytest.Setting(t, "WAY_SEED", 1)
	w := newWay(t)
	d := wayDice{newDice(uint64(seed))} //nolint:gosec // any number will do
	given := map[config.Key][]string{}
	for wl := range w.Plane().Cache.Mesh().Workloads.All() {
		given[wl.Key] = wl.IPs
	}
	seen := newFieldCoverage(t, w.Dir, given)
	const perConfiguration = 50
	done := 0
	for ; ; done += perConfiguration {
		objects, queries, found := seen.draw(d, perConfiguration)
		if done >= pairs && !found {
			break
		}
		w.put(objects)
		for _, q := range queries {
			if why := w.disagreement(q); why != "" {
				w.report(objects, q, why)
				return
			}
		}
		seen.add(w.world, objects, queries)
	}
	t.Logf("%d pairs agreed: %v", done, seen.ends)
	seen.check()
}

// report shrinks a disagreement and prints it as a case.
func (w *way) report(objects []object, q *simulate.Query, why string) {
	small := shrink(objects, func(objects []object) bool {
		if !acceptable(objects) {
			return false // the version before stays
		}
		w.put(objects)
		return w.disagreement(q) == why // not another one
	})
	js, err := json.Marshal(q)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Errorf("simulator and Envoys disagree: %s\nKeep this as a case in testdata/way:\n%s", why, txtar.Format(&txtar.Archive{Files: []txtar.File{
		{Name: "config.yaml", Data: []byte(strings.ReplaceAll(texts(small), "'"+issuer.Keys()+"'", "JWKS"))}, {Name: "query.json", Data: append(js, '\n')},
	}}))
}

// acceptable reports whether nothing of a configuration is refused.
func acceptable(objects []object) bool {
	store := discovery.NewStore(translate.Check, file.Name)
	changes, problems := file.Objects([]file.Text{{Name: "drawn.yaml", Data: []byte(texts(objects))}}, nil, translate.Check)
	store.Replace(file.Name, changes, problems)
	store.Synced(file.Name)
	return !slices.ContainsFunc(slices.Concat(problems, store.Mesh().Problems), func(p config.Problem) bool { return p.Severity == config.Error })
}

// TestWayKept tries earlier disagreements again.
func TestWayKept(t *testing.T) {
	files, err := filepath.Glob("testdata/way/" + cmp.Or(os.Getenv("WAY_CASE"), "*") + ".txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	w := newWay(t)
	for _, f := range files {
		a, err := txtar.ParseFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var q simulate.Query
		if err := json.Unmarshal(a.Files[1].Data, &q); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		w.put(objectsOf(t, strings.ReplaceAll(string(a.Files[0].Data), "JWKS", "'"+issuer.Keys()+"'")))
		if why := w.disagreement(&q); why != "" {
			t.Errorf("%s: %s", f, why)
		}
	}
}
