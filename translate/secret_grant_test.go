package translate_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

const grantedSecret = `
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: certs}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: "{}"}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  selector: {istio: ingress}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: SIMPLE, credentialName: "kubernetes-gateway://certs/cert"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: edge, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: edge}]
  to: [{group: "", kind: Secret, name: cert}]
`

// TestWhoIsGranted: a grant is for the gateways of the Gateway that names the
// Secret, and for as long as it can be read.
func TestWhoIsGranted(t *testing.T) {
	s := discovery.NewStore(translate.Check, "file")
	s.Synced("file")
	apply := func(text string) {
		objects, _ := file.Parse("in.yaml", []byte(text))
		var changes []discovery.Change
		for _, o := range objects {
			changes = append(changes, discovery.Change{Object: o})
		}
		if len(changes) == 0 {
			t.Fatalf("nothing was read of %s", text)
		}
		s.Apply("file", changes)
	}
	router := func(ns, label string) *config.Proxy {
		return &config.Proxy{Type: config.Router, Namespace: ns, Labels: map[string]string{"istio": label}}
	}
	gets := func(p *config.Proxy) bool {
		r, problems := translate.NewTranslator(10).Secret(s.Mesh(), translate.ReaderOf(p), "kubernetes-gateway://certs/cert")
		if (r == nil) != (len(problems) == 1 && problems[0].Code == "SecretNotAllowed") {
			t.Errorf("%v and problems %v", r, problems)
		}
		return r != nil
	}
	apply(grantedSecret)
	sidecar := router("edge", "ingress")
	sidecar.Type = config.Sidecar
	for name, c := range map[string]struct {
		proxy *config.Proxy
		want  bool
	}{
		"the gateway":            {router("edge", "ingress"), true},
		"one that is not chosen": {router("edge", "egress"), false},
		"a sidecar":              {sidecar, false},
		"of another namespace":   {router("apps", "ingress"), false},
	} {
		if got := gets(c.proxy); got != c.want {
			t.Errorf("%s: the Secret is given: %v, want %v", name, got, c.want)
		}
	}
	grant := func(version, spec string) string {
		return "{apiVersion: gateway.networking.k8s.io/" + version + ", kind: ReferenceGrant, metadata: {name: edge, namespace: certs}, spec: " + spec + "}"
	}
	const from, to = "from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: edge}]", `to: [{group: "", kind: Secret}]`
	for _, c := range []struct {
		text string
		want bool
	}{
		{grant("v1beta1", "{"+from+", "+to+"}"), true},
		{grant("v1", "{"+from+", "+to+", until: tomorrow}"), false},
		{grant("v1", "{"+from+", "+to+"}"), true},
		{grant("v1", "{"+from+", to: 5}"), false},
		{grant("v1", "{"+from+", "+to+"}"), true},
		{grant("v2", "{"+from+", "+to+"}"), false},
		{grant("v1", "{"+from+", "+to+"}"), true},
		{grant("v1", "{"+from+", to: []}"), false},
		{grant("v1", "{from: [], "+to+"}"), false},
		{grant("v1", "{"+from+`, to: [{group: "", kind: Secret, name: cert-2}]}`), false},
	} {
		apply(c.text)
		if got := gets(router("edge", "ingress")); got != c.want {
			t.Errorf("%s: the Secret is given: %v, want %v", c.text, got, c.want)
		}
	}
}

// TestWhatIsGranted: which fields of a Gateway name a Secret, and which grant
// their names need.
func TestWhatIsGranted(t *testing.T) {
	const gateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  selector: {istio: ingress}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example.com]
    tls: `
	const grant = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: edge, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: edge}]
  to: [{group: "", kind: Secret, name: `
	const at = "kubernetes-gateway://certs/"
	both := `{mode: MUTUAL, credentialNames: ["` + at + `rsa", "` + at + `ec"]}`
	authority := `{mode: MUTUAL, credentialName: own, caCertCredentialName: "` + at + `clients"}`
	for _, c := range []struct {
		tls, grant, name string
		want             bool
	}{
		{`{mode: SIMPLE, credentialName: "` + at + `rsa"}`, "rsa", "rsa", true},
		{`{mode: SIMPLE, credentialName: "` + at + `rsa"}`, "rsa", "rsa-cacert", false}, // nobody's certificate is checked
		{`{mode: MUTUAL, credentialName: "` + at + `rsa"}`, "rsa", "rsa-cacert", true},
		{both, "rsa", "rsa", true},
		{both, "rsa", "ec", false},
		{both, "ec", "ec", true},
		{both, "rsa", "rsa-cacert", true},
		{both, "ec", "ec-cacert", false}, // the first one's authority counts
		{authority, "clients", "clients-cacert", true},
		{authority, "clients-cacert", "clients-cacert", true},
		{authority, "others", "clients-cacert", false},
		{authority, "clients", "clients", false}, // its key is not for the gateway
		{`{mode: SIMPLE, credentialName: own, caCertCredentialName: "` + at + `clients"}`, "clients", "clients-cacert", false},
		{`{mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertCredentialName: "` + at + `clients"}`, "clients", "clients-cacert", false},
		// credentialNames go before credentialName.
		{`{mode: SIMPLE, credentialName: "` + at + `rsa", credentialNames: ["` + at + `ec"]}`, "rsa", "rsa", false},
		{`{mode: SIMPLE, credentialName: "certs/rsa"}`, "rsa", "rsa", false}, // another scheme
	} {
		s := discovery.NewStore(nil, "file")
		s.Synced("file")
		objects, errs := file.Parse("in.yaml", []byte(gateway+c.tls+grant+c.grant+"}]\n"))
		if len(errs) > 0 || len(objects) != 2 {
			t.Fatal(objects, errs)
		}
		var changes []discovery.Change
		for _, o := range objects {
			changes = append(changes, discovery.Change{Object: o})
		}
		s.Apply("file", changes)
		p := &config.Proxy{Type: config.Router, Namespace: "edge", Labels: map[string]string{"istio": "ingress"}}
		_, problems := translate.NewTranslator(10).Secret(s.Mesh(), translate.ReaderOf(p), at+c.name)
		if len(problems) != 1 {
			t.Fatalf("%s: problems %v", c.tls, problems)
		}
		if got := problems[0].Code == "SecretNotFound"; got != c.want { // it may be had, were it there
			t.Errorf("tls %s, grant for %s: %s is given: %v, want %v", c.tls, c.grant, c.name, got, c.want)
		}
	}
}
