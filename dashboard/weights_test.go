package dashboard

import (
	"slices"
	"testing"
	"time"
)

func TestRebalance(t *testing.T) {
	for _, c := range []struct {
		weights []int32
		i       int
		w       int32
		want    []int32
	}{
		{[]int32{70, 30}, 1, 50, []int32{50, 50}},
		{[]int32{70, 30}, 0, 0, []int32{0, 100}},
		{[]int32{70, 20, 10}, 0, 40, []int32{40, 40, 20}},
		{[]int32{70, 20, 10}, 2, 100, []int32{0, 0, 100}},
		{[]int32{0, 0, 100}, 2, 40, []int32{30, 30, 40}},
		{[]int32{0, 100}, 1, 99, []int32{1, 99}},
		{[]int32{33, 33, 34}, 0, 50, []int32{50, 25, 25}},
		{[]int32{0, 0, 0}, 1, 1, []int32{50, 1, 49}},
	} {
		if got := rebalance(c.weights, c.i, c.w); !slices.Equal(got, c.want) {
			t.Errorf("rebalance(%v, %d, %d) = %v, want %v", c.weights, c.i, c.w, got, c.want)
		}
	}
}

func TestShares(t *testing.T) {
	for _, c := range []struct{ weights, want []int32 }{
		{[]int32{70, 30}, []int32{70, 30}},
		{[]int32{1, 1, 1}, []int32{34, 33, 33}},
		{[]int32{1, 199}, []int32{1, 99}},
		{[]int32{0, 0}, []int32{0, 0}},
		{[]int32{2147483647, 2147483647}, []int32{50, 50}},
	} {
		if got := shares(c.weights); !slices.Equal(got, c.want) {
			t.Errorf("shares(%v) = %v, want %v", c.weights, got, c.want)
		}
	}
}

// What is configured is kept as steps, so that the plot shows when it changed.
func TestHistoryKeepsSteps(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	route := func(percents ...int32) routeView {
		var r routeView
		for _, p := range percents {
			r.Destinations = append(r.Destinations, destinationView{Percent: p})
		}
		return r
	}
	h := extendHistory(nil, route(70, 30), start)
	h = extendHistory(h, route(70, 30), start.Add(time.Second))
	h = extendHistory(h, route(50, 50), start.Add(2*time.Second))
	if len(h) != 2 || h[0].At != 1_000_000 || h[1].At != 1_000_002 || !slices.Equal(h[1].Percents, []int32{50, 50}) {
		t.Errorf("history %+v", h)
	}
	h = extendHistory(h, route(10, 90), start.Add(time.Hour))
	if len(h) != 2 || h[0].At != 1_000_002 {
		t.Errorf("an hour later: %+v, want what was in effect at the start of the kept time, and the new step", h)
	}
	if h = extendHistory(h, route(10, 80, 10), start.Add(time.Hour)); len(h) != 1 {
		t.Errorf("with a third destination: %+v, want a new start", h)
	}
}
