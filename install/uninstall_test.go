package install

import (
	"bytes"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	kubetest.Shared(t).Client(t).Apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: pilotfish-leader-default, namespace: istio-system}, spec: {holderIdentity: one-that-has-ended}}`)
	if err := c.Uninstall(t.Context(), Removal{}); err != nil || !strings.Contains(said.String(), "– release pilotfish is not there\n") {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := c.kube.CoordinationV1().Leases("istio-system").Get(t.Context(), "pilotfish-leader-default", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Lease stays: %v", err)
	}
}

const withSidecars = `
{apiVersion: v1, kind: Namespace, metadata: {name: moved}}
---
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: moved, labels: {security.istio.io/tlsMode: istio}, annotations: {istio.io/rev: default}}
spec: {containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: moved, labels: {security.istio.io/tlsMode: istio}, annotations: {istio.io/rev: canary}}
spec: {containers: [{name: app, image: app}]}
`

// Who removes a revision is told of its own sidecars only.
func TestSidecarsThatStay(t *testing.T) {
	c, said := installed(t)
	client := kubetest.Shared(t).Client(t)
	client.Apply(t, withSidecars)
	t.Cleanup(func() { client.Delete(t, withSidecars) })
	for revision, want := range map[string]string{
		"canary": "! 1 pods still have a sidecar of revision canary, such as moved/second: move their namespaces to another revision and restart them\n",
		"none":   "",
		"":       "! 2 pods still have a sidecar, such as moved/first, moved/second: remove the label istio-injection from their namespaces and restart them\n",
	} {
		said.Reset()
		if err := c.injectedPods(t.Context(), revision); err != nil || said.String() != want {
			t.Errorf("%q: %v, %q, want %q", revision, err, said, want)
		}
	}
}
