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
