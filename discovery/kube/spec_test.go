package kube

import "testing"

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
