package judge

import (
	"encoding/json"
	"slices"
)

// maxShrinks bounds the tries: each takes a configuration through two Envoys.
const maxShrinks = 120

// shrink takes parts out of a configuration as long as the disagreement
// stays.
func (s *stage) shrink(objects []object, disagrees func([]object) bool) []object {
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
// first: objects, rules, then fields of rules.
func smallerOnes(objects []object) [][]object {
	var out [][]object
	for i := range objects {
		if len(objects) > 1 {
			out = append(out, slices.Delete(slices.Clone(objects), i, i+1))
		}
	}
	for i := range objects {
		for j := range rulesOf(objects[i]) {
			if len(rulesOf(objects[i])) > 1 {
				next := copyOf(objects)
				spec := next[i]["spec"].(object)
				spec["http"] = slices.Delete(spec["http"].([]any), j, j+1)
				out = append(out, next)
			}
		}
	}
	for i := range objects {
		for j, r := range rulesOf(objects[i]) {
			for _, field := range []string{"headers", "corsPolicy", "mirror", "fault", "timeout", "retries", "rewrite", "match"} {
				if r.(object)[field] != nil {
					next := copyOf(objects)
					delete(rulesOf(next[i])[j].(object), field)
					out = append(out, next)
				}
			}
			if m, ok := r.(object)["match"].([]any); ok && len(m) > 1 {
				for k := range m {
					next := copyOf(objects)
					r := rulesOf(next[i])[j].(object)
					r["match"] = slices.Delete(r["match"].([]any), k, k+1)
					out = append(out, next)
				}
			}
		}
	}
	return out
}

func rulesOf(o object) []any { return o["spec"].(object)["http"].([]any) }

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
