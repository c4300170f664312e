package judge

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// asked is one request or connection to a side's port.
type asked struct {
	Side string
	Port int                 `json:",omitempty"` // 80 if 0
	HTTP *simulate.HTTP      `json:",omitempty"`
	TLS  *simulate.ClientTLS `json:",omitempty"` // a connection's; neither: bytes that are no TLS
}

func (q *asked) port() int {
	if q.Port == 0 {
		return 80
	}
	return q.Port
}

// drawn is one kind of configurations and of questions about them.
type drawn struct {
	configuration func(d dice) []object
	ask           func(d dice, objects []object) *asked
	// decides counts what an answer was decided by; wanted is what thousands
	// of pairs must have been decided by.
	decides func(c coverage, hop *simulate.Hop, q *asked)
	wanted  []string
}

// TestAgreement compares thousands of answers. JUDGE_PAIRS and JUDGE_SEED in
// the environment say how many of each kind, and of which seed.
func TestAgreement(t *testing.T) {
	for name, k := range map[string]*drawn{"routes": &routes, "policies": &policies, "connections": &connections} {
		t.Run(name, func(t *testing.T) { k.run(t) })
	}
}

func (k *drawn) run(t *testing.T) {
	pairs, seed := envoytest.Setting(t, "JUDGE_PAIRS", 10000), envoytest.Setting(t, "JUDGE_SEED", 1)
	s := newStage(t)
	d := newDice(uint64(seed)) //nolint:gosec // any number will do
	covered := coverage{}
	const perConfiguration = 50
	done := 0
	for ; ; done += perConfiguration {
		objects, list, found := k.draw(s, d, covered, perConfiguration)
		if done >= pairs && !found {
			break
		}
		s.put(text(objects))
		sides := s.sidesOf(s.mesh())
		for _, q := range list {
			hop := s.simulated(sides[q.Side], q)
			k.decides(covered, hop, q)
			if why := s.disagreement(hop, q); why != "" {
				s.report(objects, q, why)
				return
			}
		}
	}
	covered.check(t, done, k.wanted)
}

// candidates are the configurations that are drawn, without an Envoy, until
// one has what nothing else has had yet.
const candidates = 1000

// draw draws a configuration and questions. As long as something wanted has
// decided nothing, one of the questions is decided by some of that: found. So
// a run ends with all of it, unless what is drawn cannot show it.
func (k *drawn) draw(s *stage, d dice, covered coverage, questions int) (objects []object, list []*asked, found bool) {
	open := covered.open(k.wanted)
	for range candidates {
		objects, list = k.configuration(d), nil
		for range questions {
			list = append(list, k.ask(d, objects))
		}
		if len(open) == 0 {
			return objects, list, false
		}
		own, sides := coverage{}, s.sidesOf(s.meshOf(text(objects)))
		for _, q := range list {
			k.decides(own, s.simulated(sides[q.Side], q), q)
		}
		if len(own.open(open)) < len(open) {
			return objects, list, true
		}
	}
	return objects, list, false
}

// settle is how long a real Envoy may take to use a cluster that it has just
// got.
const settle = 2 * time.Second

// disagreement is where the real Envoy does something else than the simulator
// says, for longer than it takes to settle; or "".
func (s *stage) disagreement(hop *simulate.Hop, q *asked) string {
	deadline := time.After(settle)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		why := ""
		switch got, err := s.ask(q); {
		case err != nil:
			why = err.Error()
		case q.HTTP == nil:
			why = differsConnection(hop, got)
		default:
			why = differs(hop, got)
		}
		if why == "" {
			return ""
		}
		select {
		case <-again.C:
		case <-deadline:
			return why
		}
	}
}

// differs compares one answer with what the simulator says.
func differs(hop *simulate.Hop, got *answer) string {
	if len(hop.Unknown) > 0 {
		return fmt.Sprintf("the simulator does not know %q", hop.Unknown)
	}
	if hop.Reply != nil {
		return differsReply(hop.Reply, got)
	}
	var why []string
	for i := range hop.To {
		d := &hop.To[i]
		w := differsDestination(hop, d, got)
		if w == "" {
			return ""
		}
		why = append(why, w)
	}
	return strings.Join(why, "\n  or ")
}

func differsReply(r *simulate.Reply, got *answer) string {
	switch {
	case got.server != nil:
		return fmt.Sprintf("wants %d (%s), and it reached %s", r.Status, r.Reason, got.server.Address)
	case got.status != r.Status:
		return fmt.Sprintf("wants %d (%s), is %d %q", r.Status, r.Reason, got.status, got.body)
	case got.header.Get("location") != r.Location:
		return fmt.Sprintf("wants location %q, is %q", r.Location, got.header.Get("location"))
	case r.Body != "" && got.body != r.Body && got.body != "":
		return fmt.Sprintf("wants body %q, is %q", r.Body, got.body)
	}
	return ""
}

func differsDestination(hop *simulate.Hop, d *simulate.Destination, got *answer) string {
	if d.Reply != nil {
		return differsReply(d.Reply, got)
	}
	if got.server == nil {
		if got.header.Get("x-upstream") != "" {
			return "" // HEAD: nothing says more
		}
		return fmt.Sprintf("wants %s, is %d %q", d.Cluster, got.status, got.body)
	}
	if !slices.ContainsFunc(d.Endpoints, func(e simulate.Endpoint) bool { return e.Percent > 0 && e.Address == got.server.Address }) {
		return fmt.Sprintf("wants an endpoint of %s, is %s", d.Cluster, got.server.Address)
	}
	sent := hop.Sent
	if d.Sent != nil {
		sent = d.Sent
	}
	if sent.Path != got.server.Path || sent.Authority != got.server.Host || sent.Method != got.server.Method {
		return fmt.Sprintf("wants %s %s%s sent, is %s %s%s", sent.Method, sent.Authority, sent.Path, got.server.Method, got.server.Host, got.server.Path)
	}
	for _, name := range []string{"x-a", "x-b", "x-s", "x-d", "x-claim"} {
		want, has := sent.HeaderValue(name)
		is := strings.Join(got.server.Header.Values(name), ",")
		if want != is || has != (len(got.server.Header.Values(name)) > 0) {
			return fmt.Sprintf("wants header %s %q, is %q", name, want, is)
		}
	}
	for _, c := range sent.Response {
		is := got.header.Values(c.Name)
		if c.Op == "set" && !slices.Equal(is, []string{strings.ReplaceAll(c.Value, "%%", "%")}) && !overridden(sent.Response, c.Name) {
			return fmt.Sprintf("wants response header %s %q, is %q", c.Name, c.Value, is)
		}
	}
	return ""
}

func overridden(list []simulate.HeaderChange, name string) bool {
	n := 0
	for _, c := range list {
		if c.Name == name {
			n++
		}
	}
	return n > 1
}

// routes are draws of HTTP rules.
var routes = drawn{
	configuration: func(d dice) []object {
		out := d.inMesh(d.configuration())
		if d.chance(25) {
			out = append(out, d.delegating()...)
		}
		return out
	}, ask: dice.request,
	decides: func(c coverage, hop *simulate.Hop, q *asked) { c.add(hop, q.HTTP) },
	wanted: []string{
		"redirect", "fault", "weights", "mirror", "path changed", "authority changed", "header set", "header add", "header remove",
		"reply no", "reply exist", "reply endpoint", "met: path starts", "met: path is", "met: path matches", "met: header", "met: query parameter",
		"met: method", "met: every request", "missed: is absent", "missed: must not be one that", "missed: query parameter", "missed: method",
	},
}

// coverage counts what the answers were decided by.
type coverage map[string]int

func (c coverage) add(hop *simulate.Hop, h *simulate.HTTP) {
	if hop.Reply != nil {
		c[fmt.Sprintf("reply %s", strings.SplitN(hop.Reply.Reason, " ", 3)[0])]++
		if hop.Reply.Location != "" {
			c["redirect"]++
		}
		if hop.Fault != nil {
			c["fault"]++
		}
	}
	for i := range hop.To {
		if r := hop.To[i].Reply; r != nil {
			c["reply "+strings.Fields(r.Reason)[len(strings.Fields(r.Reason))-1]]++
		}
	}
	if len(hop.To) > 1 {
		c["weights"]++
	}
	if len(hop.Mirrors) > 0 {
		c["mirror"]++
	}
	if hop.Sent != nil {
		if hop.Sent.Path != h.Path {
			c["path changed"]++
		}
		if hop.Sent.Authority != h.Authority {
			c["authority changed"]++
		}
		for _, ch := range hop.Sent.Changes {
			c["header "+ch.Op]++
		}
	}
	for _, d := range []*simulate.Decision{hop.Route} {
		if d == nil {
			continue
		}
		c.count("met: ", d.Why)
		for _, p := range d.Passed {
			c.count("missed: ", p.Why)
		}
	}
}

// count takes a reason apart into the kinds of conditions that it names.
func (c coverage) count(prefix, why string) {
	for _, kind := range []string{"path starts", "path is", "path matches", "does not start with", "does not match", "is not one that is", "is not one that starts", "is not one that matches", "must not be one that", "is absent", "is there", "query parameter", "method", "authority", "scheme", "header", "every request"} {
		if strings.Contains(why, kind) {
			c[prefix+kind]++
		}
	}
}

// open is what is wanted and has decided nothing yet.
func (c coverage) open(wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(k string) bool { return c[k] > 0 })
}

// check requires that every kind of match and action decided some answer.
func (c coverage) check(t *testing.T, pairs int, wanted []string) {
	t.Helper()
	var lines []string
	for k, n := range c {
		lines = append(lines, fmt.Sprintf("%6d %s", n, k))
	}
	sort.Strings(lines)
	t.Logf("%d pairs agreed; decided by\n%s", pairs, strings.Join(lines, "\n"))
	for _, k := range c.open(wanted) {
		t.Errorf("nothing was decided by %q", k)
	}
}

// report shrinks a disagreement and prints it as a case.
func (s *stage) report(objects []object, q *asked, why string) {
	small := shrink(objects, func(objects []object) bool {
		s.putAnew(text(objects))
		return s.disagreement(s.simulated(s.sidesOf(s.mesh())[q.Side], q), q) == why // not another one
	})
	js, err := json.Marshal(q)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Errorf("simulator and Envoy disagree: %s\nKeep this as a case in testdata:\n%s", why,
		txtar.Format(&txtar.Archive{Files: []txtar.File{{Name: "config.yaml", Data: []byte(text(small))}, {Name: "request.json", Data: append(js, '\n')}}}))
}

// TestKept tries earlier disagreements again.
func TestKept(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no cases")
	}
	s := newStage(t)
	for _, f := range files {
		a, err := txtar.ParseFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var q asked
		if err := json.Unmarshal(a.Files[1].Data, &q); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		s.putAnew(strings.ReplaceAll(string(a.Files[0].Data), "JWKS", "'"+issuer.Keys()+"'"))
		if why := s.disagreement(s.simulated(s.sidesOf(s.mesh())[q.Side], &q), &q); why != "" {
			t.Errorf("%s: %s", f, why)
		}
	}
}
