package judge

import (
	"encoding/json"
	"maps"
	"slices"
)

// maxShrinks bounds the tries: each takes a configuration through two Envoys.
const maxShrinks = 200

// shrink takes parts out of a configuration as long as the disagreement
// stays.
func shrink(objects []object, disagrees func([]object) bool) []object {
	tries := 0
	for changed := true; changed && tries < maxShrinks; {
		changed = false
		for _, smaller := range smallerOnes(objects) {
			if tries++; tries >= maxShrinks {
				break
			}
			if disagrees(smaller) {
				objects, changed = smaller, true
				break
			}
		}
	}
	return objects
}

// smallerOnes are all configurations with one part less, the largest parts
// first: objects, then what stands in their specs, from the outside in. One
// that is no longer valid has no effect and disagrees with nothing.
func smallerOnes(objects []object) [][]object {
	var out [][]object
	for i := range objects {
		if len(objects) > 1 {
			out = append(out, slices.Delete(slices.Clone(objects), i, i+1))
		}
	}
	for depth := 1; depth < 8; depth++ {
		for i := range objects {
			n := parts(objects[i]["spec"], depth, -1)
			for k := range n {
				next := copyOf(objects)
				parts(next[i]["spec"], depth, k)
				out = append(out, next)
			}
		}
	}
	return out
}

// parts counts the parts of a tree at a depth, and takes out the one with the
// number remove, if there is one. Of a list, one item stays.
func parts(tree any, depth, remove int) (n int) {
	switch t := tree.(type) {
	case object:
		for _, k := range slices.Sorted(maps.Keys(t)) {
			if depth > 1 {
				if list, ok := t[k].([]any); ok && depth == 2 && len(list) > 1 {
					if at := remove - n; at >= 0 && at < len(list) {
						t[k] = slices.Delete(list, at, at+1)
					}
					n += len(list)
					continue
				}
				n += parts(t[k], depth-1, remove-n)
				continue
			}
			if n == remove {
				delete(t, k)
			}
			n++
		}
	case []any:
		if depth > 1 {
			for _, item := range t {
				n += parts(item, depth-1, remove-n)
			}
		}
	}
	return n
}

func copyOf(objects []object) []object {
	b, err := json.Marshal(objects)
	if err != nil {
		panic(err) // values of JSON only
	}
	var out []object
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err) // it was written a line before
	}
	return out
}
