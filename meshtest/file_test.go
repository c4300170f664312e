package meshtest_test

import (
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// A key that an invariant does not have would widen it in silence.
func TestUnknownKeysOfForall(t *testing.T) {
	const text = `tests:
- name: nothing of pci
  forall:
    from: {workload: front, pod: a}
    to: {namespace: pci, workload: payments}
  expect: {authz: deny}
- name: good
  forall: {from: {namespace: shop}, to: {service: payments, namespace: pci}}
  expect: {authz: deny}
`
	f, problems := meshtest.Parse("x_test.yaml", []byte(text))
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		`x_test.yaml:4:29: error: unknown key "forall.from.pod": want one of address, gateway, namespace, plain, workload (UnknownKey)`,
		`x_test.yaml:5:26: error: unknown key "forall.to.workload": want one of namespace, service (UnknownKey)`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(f.Cases) != 1 || f.Cases[0].Name != "good" {
		t.Errorf("the cases that can be read: %d", len(f.Cases))
	}
}
