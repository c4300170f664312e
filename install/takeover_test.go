package install

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// istiods are the ConfigMaps of an istiod, as Istio's chart writes them.
const istiods = `
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-prod, namespace: istio-system}
data:
  meshNetworks: "networks: {}"
  mesh: |-
    defaultConfig:
      discoveryAddress: istiod-prod.istio-system.svc:15012
      image: {imageType: distroless}
      holdApplicationUntilProxyStarts: true
    rootNamespace: istio-system
    trustDomain: example.org
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector-prod, namespace: istio-system}
data:
  values: |-
    {"global": {"hub": "docker.io/istio", "tag": "1.31.0", "istioNamespace": "istio-system", "network": "n1",
      "proxy": {"image": "proxyv2", "resources": {"requests": {"cpu": "11m"}}}, "proxy_init": {"image": "proxyv2"}}, "revision": "prod"}
  config: |-
    policy: disabled
    defaultTemplates: [sidecar, ours]
    alwaysInjectSelector:
      []
    injectedAnnotations:
    template: "{{ Template_Version_And_Istio_Version_Mismatched_Check_Installation }}"
    templates:
      sidecar: "metadata: {labels: {from: istio}}"
      waypoint: "metadata: {}"
      ours: "metadata: {labels: {from: us}}"
`

func TestSettingsOf(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, istiods)
	var said bytes.Buffer
	c, err := Connect(s.Kubeconfig(), "", &said)
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.WithSettings(t.Context(), Options{SettingsFrom: "prod", Values: map[string]any{
		"revision": "pilotfish", "meshConfig": map[string]any{"trustDomain": "example.net"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := yaml.Unmarshal([]byte(`
revision: pilotfish
meshConfig:
  accessLogFile: ""
  defaultConfig: {holdApplicationUntilProxyStarts: true}
  rootNamespace: istio-system
  trustDomain: example.net # given goes first
injection:
  policy: disabled
  defaultTemplates: [sidecar, ours]
  alwaysInjectSelector: []
  templates: {ours: "metadata: {labels: {from: us}}"}
  values: {global: {network: n1, proxy: {resources: {requests: {cpu: 11m}}}, proxy_init: {}}}
`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(o.Values, want) {
		got, _ := yaml.Marshal(o.Values)
		t.Errorf("the values are\n%s", got)
	}
	if _, err := Render(o); err != nil { // the chart's schema takes them
		t.Error(err)
	}
	if !strings.Contains(said.String(), "settings taken from revision prod: meshConfig (accessLogFile, defaultConfig, rootNamespace, trustDomain)") {
		t.Errorf("it says %q", said.String())
	}
	const missing = "there is no ConfigMap istio-system/istio-other to take settings from: is the revision's name right?"
	if _, err := c.WithSettings(t.Context(), Options{SettingsFrom: "other"}); err == nil || err.Error() != missing {
		t.Errorf("of a revision that does not exist: %v", err)
	}
}
