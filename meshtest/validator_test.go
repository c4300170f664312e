package meshtest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// wantMatch alone is about whether any rule decides; beside other parts it says
// that each of them is so, or that none is.
func TestWantMatch(t *testing.T) {
	const mesh = `apiVersion: apps/v1
kind: Deployment
metadata: {name: gw, namespace: a}
spec: {selector: {matchLabels: {istio: gw}}, template: {metadata: {labels: {istio: gw, sidecar.istio.io/inject: "true"}, annotations: {inject.istio.io/templates: gateway}}, spec: {containers: [{name: istio-proxy, image: auto}]}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: a}
spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: a}
spec: {hosts: [x.test], gateways: [gw], http: [{name: in, match: [{uri: {prefix: /in}}], headers: {request: {set: {x-s: "1"}}}, route: [{destination: {host: b}}]}]}
`
	store := discovery.NewStore(nil, file.Name)
	changes, problems := file.Objects([]file.Text{{Name: "mesh.yaml", Data: []byte(mesh)}}, func(config.Key, map[string]string) []string { return []string{"10.0.0.1"} }, nil)
	store.Replace(file.Name, changes, problems)
	store.Synced(file.Name)
	w := simulate.NewWorld(store.Mesh())
	const to = ", route: [{destination: {host: b}}]"
	for _, c := range []struct {
		match            bool
		host, path, rest string
		want             []string
	}{
		{true, "x.test", "/in", "", nil},
		{true, "x.test", "/out", "", []string{"wantMatch: want true, is false"}},
		{true, "unserved.test", "/in", "", []string{"wantMatch: no VirtualService has a rule in effect for the host of http://unserved.test/in"}},
		{false, "x.test", "/in", "", []string{"wantMatch: want false, is true"}},
		{false, "x.test", "/out", "", nil},
		{false, "unserved.test", "/in", "", nil},
		{true, "x.test", "/in", to, nil},
		{false, "x.test", "/in", to, []string{"not: it is so: to map[b|:100]"}},
		{false, "x.test", "/out", to, nil},
		{false, "unserved.test", "/in", to, nil},
		{false, "x.test", "/in", ", route: [{destination: {host: c}}], headers: {request: {set: {x-s: \"1\"}}}", []string{"not: it is so: headers map[x-s:1]"}},
	} {
		f, problems := meshtest.Parse("x_test.yaml", fmt.Appendf(nil, "testCases: [{description: it, wantMatch: %t, request: {authority: [%s], uri: [%s]}%s}]", c.match, c.host, c.path, c.rest))
		if len(problems) != 0 {
			t.Fatal(problems)
		}
		r := meshtest.Run(meshtest.Simulator{World: w}, w, f.Cases, nil)[0]
		if r.Err != nil || !slices.Equal(r.Failed, c.want) {
			t.Errorf("wantMatch %t, %s%s%s: %v %q, want %q", c.match, c.host, c.path, c.rest, r.Err, r.Failed, c.want)
		}
	}
}
