package meshtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// different joins the parts of two summaries: where they go, and what else is
// not the same.
func different(a, b []string) (was, now string) {
	if slices.Equal(a, b) {
		return "", ""
	}
	only := func(x, y []string) string {
		out := x[:1:1]
		for _, part := range x[1:] {
			if !slices.Contains(y, part) {
				out = append(out, part)
			}
		}
		return strings.Join(out, ", ")
	}
	return only(a, b), only(b, a)
}

// summary is an answer in parts, the results first: two that are equal treat
// the request the same.
func summary(a *simulate.Answer, err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	parts := []string{strings.Join(ends(a), ", ")}
	h := a.Hop
	if s := h.Sent; s != nil {
		if s.Rewritten {
			parts = append(parts, fmt.Sprintf("as %s %s%s", s.Method, s.Authority, s.Path))
		}
		for _, ch := range s.Changes {
			parts = append(parts, strings.TrimSuffix(ch.Op+" "+ch.Name+": "+ch.Value, ": "))
		}
	}
	if !h.Timeout.IsZero() && h.Timeout.Duration > 0 && h.Reply == nil {
		parts = append(parts, "within "+h.Timeout.String())
	}
	if r := h.Retries; r != nil && h.Reply == nil {
		parts = append(parts, fmt.Sprintf("%d retries on %s", r.Attempts, r.On))
	}
	for _, m := range h.Mirrors {
		parts = append(parts, fmt.Sprintf("mirrored %.4g %% to %s", m.Percent, m.Cluster))
	}
	if f := h.Fault; f != nil && f.DelayPercent > 0 {
		parts = append(parts, fmt.Sprintf("%.4g %% delayed %s", f.DelayPercent, f.Delay))
	}
	if h.Reply != nil && h.Reply.Location != "" {
		parts = append(parts, "to "+h.Reply.Location)
	}
	return parts
}

// ends are the ways in which a request ends, with their shares. Whose proxy
// refuses it does not matter.
func ends(a *simulate.Answer) []string {
	var texts []string
	share := map[string]float64{}
	for i := range a.Results {
		r := &a.Results[i]
		text := r.Reason
		switch {
		case r.Delivered:
			text = strings.TrimSpace(r.Workload+" "+r.Labels["version"]) + " by " + r.Security
		case r.Status != 0:
			text = fmt.Sprintf("%d: %s", r.Status, r.Reason)
		}
		if _, have := share[text]; !have {
			texts = append(texts, text)
		}
		share[text] += r.Percent
	}
	for i, text := range texts {
		texts[i] = fmt.Sprintf("%.4g %% %s", share[text], text)
	}
	return texts
}
