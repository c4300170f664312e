package install

import (
	"bytes"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

const held = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: held, namespace: purged, finalizers: [example.com/backup]}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: free, namespace: purged}
spec: {host: a}
`

// A purge that something holds up says what does, and ends when it is gone,
// with every object of users.
func TestPurgeTellsWhatHoldsIt(t *testing.T) {
	s := kubetest.Shared(t)
	client := s.Client(t)
	client.InstallCRDs(t)
	client.Apply(t, held)
	c, err := Connect(s.Kubeconfig(), "", &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Uninstall(t.Context(), Removal{Purge: true, Timeout: time.Second})
	for _, want := range []string{
		"remove CRDs: after 1s these are still there; end what holds them, and run it again:\n",
		"\n  VirtualService purged/held: finalizers: example.com/backup",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %q", err, want)
		}
	}
	routes := client.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}, "purged")
	if _, err := routes.Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Uninstall(t.Context(), Removal{Purge: true, Timeout: 2 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	client.InstallCRDs(t) // what is left of the objects would come back with them
	list, err := routes.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// A revision that is named has to be there.
func TestUninstallOfNothing(t *testing.T) {
	c, said := installed(t)
	if err := c.Uninstall(t.Context(), Removal{Revision: "none"}); err == nil || err.Error() != `revision "none" is not installed: there is no release pilotfish-none` {
		t.Error(err)
	}
	if err := c.Uninstall(t.Context(), Removal{}); err != nil || !strings.Contains(said.String(), "– release pilotfish is not there\n") {
		t.Errorf("%v: %s", err, said)
	}
}
