package config

// Nearest returns the candidate that a mistyped name most likely stands for,
// or "" if none is close: at most a third of the letters differ.
func Nearest(name string, candidates []string) string {
	best, limit := "", max(len(name)/3, 1)
	for _, c := range candidates {
		if d := distance(name, c, limit); d <= limit && (d < limit || best == "") {
			best, limit = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap to
// turn a into b, letter case aside; anything above limit means "too far".
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	two, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && lower(a[i-1]) == lower(b[j-2]) && lower(a[i-2]) == lower(b[j-1]) {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, prev, cur = prev, cur, two
	}
	return prev[len(b)]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
