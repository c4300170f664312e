package kube

import (
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// TestUnknownField reads a spec of a CRD newer than the program.
func TestUnknownField(t *testing.T) {
	m := &config.Meta{Key: config.Key{Kind: "VirtualService", Namespace: "a", Name: "b"}}
	var spec networking.VirtualService
	problems := decode(m, []byte(`{"hosts":["a"],"http":[{"name":"n","lanes":3}]}`), &spec)
	if spec.Hosts[0] != "a" || spec.Http[0].Name != "n" {
		t.Errorf("the fields beside an unknown one read %v", &spec)
	}
	if len(problems) != 1 {
		t.Fatalf("problems %v, want one", problems)
	}
	p := problems[0]
	if p.Severity != config.Warning || p.Code != "UnknownField" || p.Field != "spec.http[0].lanes" ||
		p.Object != m.Key || !strings.HasPrefix(p.Message, `unknown field "lanes"`) {
		t.Errorf("problem %v of field %s", p, p.Field)
	}
	if problems := decode(m, nil, &spec); problems != nil {
		t.Errorf("no spec at all: %v", problems)
	}
}

// TestFieldAt asks for the field at each key and value of a text.
func TestFieldAt(t *testing.T) {
	text := "{\"hosts\":[\"é\",\"b\"],\n\"http\":[{\"timeout\":\"x\"},{\"timeout\":{}}]}"
	for _, c := range []struct {
		line, column int
		want         string
	}{
		{1, 1, ""},
		{1, 2, ".hosts"},
		{1, 10, ".hosts"},
		{1, 11, ".hosts[0]"},
		{1, 15, ".hosts[1]"}, // é is one column and two bytes
		{2, 2, ".http"},
		{2, 9, ".http[0]"},
		{2, 10, ".http[0].timeout"},
		{2, 20, ".http[0].timeout"},
		{2, 37, ".http[1].timeout"},
		{9, 1, ""},
	} {
		if got := fieldAt([]byte(text), offsetOf([]byte(text), c.line, c.column)); got != c.want {
			t.Errorf("line %d, column %d: %q, want %q", c.line, c.column, got, c.want)
		}
	}
	if got := fieldAt([]byte(`{"a":[1,`), 7); got != ".a[1]" {
		t.Errorf("broken JSON: %q", got)
	}
}
