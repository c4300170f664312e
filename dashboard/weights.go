package dashboard

import (
	"cmp"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
)

// shares turns relative weights into percentages that sum to 100, by the
// largest remainder. Weights that are all 0 stay.
func shares(weights []int32) []int32 {
	sum := int64(0)
	for _, w := range weights {
		sum += int64(max(w, 0))
	}
	out := make([]int32, len(weights))
	if sum == 0 {
		return out
	}
	return divide(weightfile.Total, weights, sum)
}

// divide splits total in proportion to parts, which sum to sum > 0.
func divide(total int32, parts []int32, sum int64) []int32 {
	type rest struct {
		index int
		rest  int64
	}
	out := make([]int32, len(parts))
	rests := make([]rest, len(parts))
	left := total
	for i, p := range parts {
		exact := int64(total) * int64(max(p, 0))
		out[i] = int32(exact / sum)
		left -= out[i]
		rests[i] = rest{i, exact % sum}
	}
	slices.SortStableFunc(rests, func(a, b rest) int { return cmp.Compare(b.rest, a.rest) })
	for i := range left {
		out[rests[i].index]++
	}
	return out
}

// rebalance gives destination i the weight w of 100 and divides the rest among
// the others in proportion to what they had, evenly where they had nothing.
func rebalance(weights []int32, i int, w int32) []int32 {
	others := slices.Clone(weights)
	others[i] = 0
	sum := int64(0)
	for _, o := range others {
		sum += int64(max(o, 0))
	}
	if sum == 0 {
		for j := range others {
			if j != i {
				others[j] = 1
				sum++
			}
		}
	}
	out := divide(weightfile.Total-w, others, sum)
	out[i] = w
	return out
}
