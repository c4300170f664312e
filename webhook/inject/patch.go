package inject

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// operation is one step of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value *any   `json:"value,omitempty"` // nil only where there is none: null is a value
}

// patch is the JSON patch from one pod to the other. Lists are replaced as a
// whole: their elements were moved, and carry every field that they had.
func patch(from, to Object) ([]byte, error) {
	return json.Marshal(difference([]operation{}, "", from, to))
}

func difference(out []operation, path string, from, to Object) []operation {
	for _, k := range slices.Sorted(maps.Keys(from)) {
		if _, stays := to[k]; !stays {
			out = append(out, operation{Op: "remove", Path: path + "/" + escaped(k)})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(to)) {
		at := path + "/" + escaped(k)
		was, had := from[k]
		a, isObject := was.(Object)
		b, staysObject := to[k].(Object)
		switch {
		case had && isObject && staysObject:
			out = difference(out, at, a, b)
		case had && reflect.DeepEqual(was, to[k]):
		case had:
			out = append(out, operation{Op: "replace", Path: at, Value: value(to[k])})
		default:
			out = append(out, operation{Op: "add", Path: at, Value: value(to[k])})
		}
	}
	return out
}

// escaped is a key as a part of a JSON pointer (RFC 6901).
func escaped(k string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(k) }

func value(v any) *any { return &v }
