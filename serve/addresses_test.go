package serve_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

const addressless = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: addressless, namespace: default}
spec:
  hosts: [one.example.com, two.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: addressed, namespace: default}
spec:
  hosts: [three.example.com]
  addresses: [192.0.2.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
`

// The leader writes allocated addresses into the status of ServiceEntries, once;
// the next control plane keeps them.
func TestAddressesInStatus(t *testing.T) {
	s := kubetest.Shared(t)
	client := s.Client(t)
	client.InstallCRDs(t)
	client.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	client.Apply(t, addressless)
	t.Cleanup(func() { client.Delete(t, addressless) })
	entries := client.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}, "default")
	read := func(name string) *unstructured.Unstructured {
		o, err := entries.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	r := startReplica(t, s, nil).ready()
	var first *unstructured.Unstructured
	envoytest.Eventually(t, 60*time.Second, func() string {
		first = read("addressless")
		return misses(first)
	})
	r.stop()
	if all := inStatus(read("addressed")); len(all) > 0 {
		t.Errorf("an entry with an address of its own got %v", all)
	}

	// A later write of the next leader shows that it has been past the first.
	next := startReplica(t, s, nil).ready()
	later := "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: later, namespace: default}, " +
		"spec: {hosts: [later.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}"
	client.Apply(t, later)
	t.Cleanup(func() { client.Delete(t, later) })
	envoytest.Eventually(t, 60*time.Second, func() string {
		if len(inStatus(read("later"))) == 0 {
			return "no address yet"
		}
		return ""
	})
	next.stop()
	if again := read("addressless"); again.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("it was written again: %v, then %v", inStatus(first), inStatus(again))
	}
}

// inStatus are the addresses of an entry's status by host.
func inStatus(o *unstructured.Unstructured) map[string][]string {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "addresses")
	out := map[string][]string{}
	for _, a := range list {
		m, _ := a.(map[string]any)
		host, _ := m["host"].(string)
		value, _ := m["value"].(string)
		out[host] = append(out[host], value)
	}
	return out
}

// misses is what the status lacks: an address of each family for each host,
// which no other has.
func misses(o *unstructured.Unstructured) string {
	all := inStatus(o)
	seen := map[string]bool{}
	for _, host := range []string{"one.example.com", "two.example.com"} {
		families := map[bool]bool{}
		for _, v := range all[host] {
			a, err := netip.ParseAddr(v)
			if err != nil || seen[v] {
				return fmt.Sprintf("%s has %q", host, v)
			}
			seen[v], families[a.Is4()] = true, true
		}
		if len(families) != 2 {
			return fmt.Sprintf("%s has %v", host, all[host])
		}
	}
	return ""
}
