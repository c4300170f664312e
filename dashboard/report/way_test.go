package report_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// The drawing of a way names what decides about the request in its order, with
// the shares where it divides and how it ends; no box lies on another.
func TestWay(t *testing.T) {
	w := simulate.NewWorld(load(t, "", ""))
	for url, want := range map[string][]string{
		"http://reviews/": {
			"client: shop/front", "listener: 0.0.0.0_80", "route: everyone", "cluster, 90 %: v1 reviews.shop", "cluster, 10 %: v2 reviews.shop", "endpoint: shop/reviews-v1",
			"inbound chain: 0.0.0.0_8080", "good application: shop/reviews-v1", "endpoint: shop/reviews-v2", "inbound chain: 0.0.0.0_8080", "good application: shop/reviews-v2",
		},
		"http://payments.pci/charge": {
			"client: shop/front", "listener: 0.0.0.0_80", "route: default", "cluster: payments.pci", "endpoint: pci/payments", "inbound chain: 0.0.0.0_8080", "policy: rbac: denied", "bad answers: 403: RBAC: no AL…",
		},
	} {
		a, err := w.Ask(&simulate.Query{From: "shop/front", URL: url})
		if err != nil {
			t.Fatal(err)
		}
		way := report.AnswerOf(a, false).Way
		var got []string
		for i, s := range way.Steps {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s: %s", s.Kind, s.Label, s.Text)))
			if s.X < 0 || s.Y < 0 || s.X+way.StepWidth() > way.Width || s.Y+way.StepHeight() > way.Height {
				t.Errorf("%s: %q is outside of the drawing", url, s.Text)
			}
			for _, o := range way.Steps[:i] {
				if o.X == s.X && o.Y < s.Y+way.StepHeight() && s.Y < o.Y+way.StepHeight() {
					t.Errorf("%s: %q lies on %q", url, s.Text, o.Text)
				}
			}
		}
		if len(way.Lines) != len(way.Steps)-1 {
			t.Errorf("%s: %d steps are joined by %d lines", url, len(way.Steps), len(way.Lines))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", url, got, want)
		}
		var b bytes.Buffer
		if err := (&report.Page{Title: "ask", Answer: report.AnswerOf(a, false)}).Write(&b); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`<svg class="way"`, `role="img" aria-label="The way of the request`, "(AuthorizationPolicy pci/payments (security.yaml:7))"} {
			if !strings.Contains(b.String(), part) && (strings.Contains(url, "pci") || !strings.Contains(part, "Policy")) {
				t.Errorf("%s: the page lacks %s", url, part)
			}
		}
	}
}
