package judge

import (
	"math"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// sharesOf are the requests, in percent, that each address should get.
func sharesOf(hop *simulate.Hop) map[string]float64 {
	out := map[string]float64{}
	for i := range hop.To {
		for _, e := range hop.To[i].Endpoints {
			out[e.Address] += hop.To[i].Percent * e.Percent / 100
		}
	}
	return out
}

// TestShares compares how often real Envoys pick each endpoint with what the
// simulator says, for drawn weights: within five standard deviations, so that
// chance makes it fail once in a million.
func TestShares(t *testing.T) {
	const configurations, requests = 12, 600
	s := newStage(t)
	d := newDice(uint64(envoytest.Setting(t, "JUDGE_SEED", 1))) //nolint:gosec // any number will do
	for range configurations {
		var list []any
		for _, to := range []object{{"host": "one", "subset": "v1"}, {"host": "one", "subset": "v2"}, {"host": "two"}, {"host": "three.b.svc.cluster.local"}}[:2+d.IntN(3)] {
			list = append(list, object{"destination": to, "weight": d.IntN(100)})
		}
		list[0].(object)["weight"] = 1 + d.IntN(99)
		vs := object{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": object{"name": "shares", "namespace": "a"},
			"spec": object{"hosts": []any{"x.test"}, "gateways": []any{"gw", "mesh"}, "http": []any{object{"route": list}}},
		}
		s.put(text([]object{vs}))
		q := &asked{Side: d.one("outbound", "gateway"), HTTP: &simulate.HTTP{Method: "GET", Scheme: "http", Authority: "x.test", Path: "/"}}
		hop := s.simulated(s.sidesOf(s.mesh())[q.Side], q)
		if why := s.disagreement(hop, q); why != "" { // clusters are warm now
			t.Fatal(why)
		}
		s.countShares(q, sharesOf(hop), requests)
	}
}

func (s *stage) countShares(q *asked, want map[string]float64, requests int) {
	s.t.Helper()
	if len(want) < 2 {
		s.t.Fatalf("nothing to tell apart: %v", want)
	}
	got := map[string]int{}
	for range requests {
		a, err := s.send(q)
		if err != nil || a.server == nil {
			s.t.Fatalf("not answered: %v %+v", err, a)
		}
		got[a.server.Address]++
	}
	total := 0
	for address, percent := range want {
		p := percent / 100
		within := 5*math.Sqrt(p*(1-p)/float64(requests)) + 1/float64(requests)
		if is := float64(got[address]) / float64(requests); math.Abs(is-p) > within {
			s.t.Errorf("%s gets %.1f %% of the requests, want %.1f", address, 100*is, percent)
		}
		total += got[address]
	}
	if total != requests {
		s.t.Errorf("%d of %d requests went elsewhere: %v, want %v", requests-total, requests, got, want)
	}
}
