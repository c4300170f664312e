package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Answer is what happens to a request, as people read it.
type Answer struct {
	Request  string
	From     string
	Connects string // the address and who has it; or empty
	Hops     []Hop
	Results  []Line
	Way      *Way
}

// Hop is what one Envoy does.
type Hop struct {
	Title string
	Lines []Line
}

// Line is one fact with the object that made it.
type Line struct {
	Label, Text string
	Source      *simulate.Source
	// Bad: a share of the requests ends here, unanswered by the server.
	Bad bool
}

// AnswerOf puts an answer into words; with explain, also why what came before
// each decision did not match.
func AnswerOf(a *simulate.Answer, explain bool) *Answer {
	t := &answerText{explain: explain, told: map[*simulate.Hop]bool{}, out: &Answer{Request: a.Request, From: a.From}}
	if a.Address != "" {
		t.out.Connects = a.Address
		if a.Service != "" {
			t.out.Connects += " (" + a.Service + ")"
		}
	}
	t.hop(a.Hop)
	t.results(a)
	t.out.Way = wayOf(a)
	return t.out
}

// answerText gathers the lines of an Answer.
type answerText struct {
	out     *Answer
	explain bool
	told    map[*simulate.Hop]bool
}

// line adds a fact to the last hop.
func (t *answerText) line(label, text string, source *simulate.Source) {
	h := &t.out.Hops[len(t.out.Hops)-1]
	h.Lines = append(h.Lines, Line{Label: label, Text: text, Source: source})
}

func (t *answerText) hop(h *simulate.Hop) {
	if h == nil || t.told[h] {
		return
	}
	t.told[h] = true
	t.out.Hops = append(t.out.Hops, Hop{Title: h.Proxy + ", " + h.Side})
	if h.Sidecar != nil {
		t.line("scope", "what the Sidecar lets its proxy see", h.Sidecar)
	}
	for _, p := range h.Patched {
		t.line("patched", "by an EnvoyFilter", p)
	}
	if h.Side == "inbound" && !t.explain {
		t.brief(h)
		return
	}
	t.decision("listener", h.Listener)
	t.decision("filter chain", h.Chain)
	t.downstream(h.Downstream)
	for i := range h.Filters {
		t.verdict(&h.Filters[i])
	}
	t.decision("virtual host", h.VirtualHost)
	t.decision("route", h.Route)
	t.action(h)
	if h.Reply != nil {
		t.reply(h.Reply)
	}
	for i := range h.To {
		t.destination(&h.To[i])
	}
	for _, u := range h.Unknown {
		t.line("not known", u, nil)
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			t.hop(h.To[i].Endpoints[j].Server)
		}
	}
}

// brief leaves out of a server's side what is the same for every request: its
// own listener and the one route to the application.
func (t *answerText) brief(h *simulate.Hop) {
	t.decision("filter chain", h.Chain)
	t.downstream(h.Downstream)
	for i := range h.Filters {
		t.verdict(&h.Filters[i])
	}
	if h.Reply != nil {
		t.reply(h.Reply)
	}
	for i := range h.To {
		t.destination(&h.To[i])
	}
	for _, u := range h.Unknown {
		t.line("not known", u, nil)
	}
}

func (t *answerText) decision(label string, d *simulate.Decision) {
	if d == nil {
		return
	}
	if t.explain {
		for _, p := range d.Passed {
			t.line("", fmt.Sprintf("not %s: %s", p.Name, p.Why), p.Source)
		}
	}
	if d.Name == "" {
		return
	}
	text := d.Name
	if d.Why != "" {
		text += ": " + d.Why
	}
	t.line(label, text, d.Source)
}

// downstream is how the connection came, and what says how it may come.
func (t *answerText) downstream(s *simulate.Security) {
	if s == nil {
		return
	}
	text := s.Mode
	switch {
	case s.Passthrough:
		text += " between the applications"
	case s.Identity != "":
		text += ", the client is " + s.Identity
	}
	t.line("connection", text, s.Source)
}

func (t *answerText) verdict(v *simulate.Verdict) {
	if t.explain {
		for _, p := range v.Passed {
			t.line("", fmt.Sprintf("not %s: %s", p.Name, p.Why), p.Source)
		}
	}
	word := "denied"
	if v.Allowed {
		word = "allowed"
	}
	if v.Dry {
		word = "would be " + word
	}
	t.line(shortFilter(v.Filter), word+": "+v.Why, v.Source)
}

func shortFilter(name string) string {
	return name[strings.LastIndexByte(name, '.')+1:]
}

func (t *answerText) action(h *simulate.Hop) {
	if f := h.Fault; f != nil {
		if f.DelayPercent > 0 {
			t.line("fault", fmt.Sprintf("%s of the requests wait %s", Percent(f.DelayPercent), f.Delay), f.Source)
		}
		if f.AbortPercent > 0 {
			t.line("fault", fmt.Sprintf("%s of the requests are answered %d", Percent(f.AbortPercent), f.Abort), f.Source)
		}
	}
	if h.Reply == nil && !h.Timeout.IsZero() && !h.Timeout.Default {
		t.line("timeout", h.Timeout.String(), h.TimeoutSource)
	}
	if r := h.Retries; r != nil && h.Reply == nil {
		text := fmt.Sprintf("%d on %s", r.Attempts, r.On)
		if r.PerTry > 0 {
			text += ", each within " + r.PerTry.Round(time.Millisecond).String()
		}
		t.line("retries", text, r.Source)
	}
	t.sent(h.Sent)
	for _, m := range h.Mirrors {
		t.line("mirror", fmt.Sprintf("%s to %s", Percent(m.Percent), m.Cluster), m.Source)
	}
}

func (t *answerText) sent(s *simulate.Sent) {
	if s == nil {
		return
	}
	t.line("sends", strings.TrimSpace(s.Method+" "+s.Authority+s.Path), s.Source)
	for _, c := range s.Changes {
		t.line("header", changeText(c), c.Source)
	}
	for _, c := range s.Response {
		t.line("in the answer", changeText(c), c.Source)
	}
}

func changeText(c simulate.HeaderChange) string {
	if c.Op == "remove" {
		return "remove " + c.Name
	}
	return fmt.Sprintf("%s %s: %s", c.Op, c.Name, c.Value)
}

func (t *answerText) reply(r *simulate.Reply) {
	text := r.Reason
	if r.Status != 0 {
		text = fmt.Sprintf("%d: %s", r.Status, r.Reason)
	}
	if r.Location != "" {
		text += ", to " + r.Location
	}
	t.line("answers", text, r.Source)
}

func (t *answerText) destination(d *simulate.Destination) {
	t.line("to", fmt.Sprintf("%s %s", d.Cluster, Percent(d.Percent)), d.Source)
	if d.BalanceSource != nil {
		t.line("balance", strings.ToLower(d.Balance), d.BalanceSource)
	}
	t.sent(d.Sent)
	if d.Reply != nil {
		t.reply(d.Reply)
	}
	left := 0
	for i := range d.Endpoints {
		ep := &d.Endpoints[i]
		if i >= 10 && !t.explain || ep.Percent == 0 && !t.explain {
			left++
			continue
		}
		t.line("", endpointText(ep), ep.Source)
		if s := ep.Security; s != nil && s.Source != nil && s.Source.Object.Kind == "DestinationRule" && (i == 0 || t.explain) {
			t.line("", s.Mode+" by the rule for its clients", s.Source)
		}
	}
	if left > 0 {
		t.line("", fmt.Sprintf("and %d more (--explain lists them)", left), nil)
	}
}

func endpointText(ep *simulate.Endpoint) string {
	text := ep.Address
	if ep.Workload != "" {
		text += " " + ep.Workload
	}
	text += " " + Percent(ep.Percent)
	for _, part := range []string{ep.Locality, ep.Health} {
		if part != "" {
			text += ", " + part
		}
	}
	if ep.Priority > 0 {
		text += fmt.Sprintf(", priority %d", ep.Priority)
	}
	if s := ep.Security; s != nil {
		text += ", " + s.Mode
		if s.Passthrough {
			text += " between the applications"
		}
		if s.Identity != "" {
			text += " as " + s.Identity
		}
	}
	return text
}

// Percent writes a share: "12.5 %".
func Percent(p float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", p), "0"), ".") + " %"
}

func (t *answerText) results(a *simulate.Answer) {
	for i := range a.Results {
		r := &a.Results[i]
		t.out.Results = append(t.out.Results, Line{Percent(r.Percent), resultText(r), r.Source, !r.Delivered})
	}
	if a.Near != "" {
		t.out.Results = append(t.out.Results, Line{Label: "no service", Text: fmt.Sprintf("has this host: did you mean %q?", a.Near)})
	}
	for _, u := range a.Unknown {
		t.out.Results = append(t.out.Results, Line{Label: "not certain", Text: u})
	}
}

func resultText(r *simulate.Result) string {
	if r.Delivered {
		text := r.Workload
		if text == "" {
			text = r.Address
		}
		if v := r.Labels["version"]; v != "" {
			text += " version " + v
		}
		return text + ", " + r.Security
	}
	if r.Status == 0 {
		return r.Reason + ", by " + r.By
	}
	return fmt.Sprintf("%d: %s, by %s", r.Status, r.Reason, r.By)
}
