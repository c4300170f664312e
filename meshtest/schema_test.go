package meshtest

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The schema for editors has exactly the keys that Parse reads.
func TestSchemaHasEveryKey(t *testing.T) {
	b, err := os.ReadFile("../docs/schemas/mesh-test.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{"expect": Expect{}, "from": From{}, "request": Request{}} {
		var want []string
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			if tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ","); tag != "" {
				want = append(want, tag)
			}
		}
		slices.Sort(want)
		if got := sortedKeys(schema.Defs[name].Properties); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %q, the type has %q", name, got, want)
		}
	}
}
