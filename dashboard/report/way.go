package report

import (
	"fmt"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Way is an answer as a drawing: from the client at the left, through what
// decides about the request, to who answers it. Lengths are in CSS pixels.
type Way struct {
	Width, Height int
	Steps         []Step
	Lines         []string // SVG paths that join them
}

// Step is one box: the client, a decision, an endpoint, or who answers.
type Step struct {
	Label, Text string // Text is what fits
	Title       string // all of it, with the object that made it
	Kind        string // good or bad where the way ends; or empty
	X, Y        int
}

// Sizes, and bounds of a drawing that can be read.
const (
	stepWidth, stepHeight  = 138, 46
	stepAcross, stepDown   = 18, 12
	maxStepText            = 17
	maxBranches, maxOnEach = 6, 30
)

// StepWidth and StepHeight are those of every step.
func (w *Way) StepWidth() int { return stepWidth }

// StepHeight is one row of two lines.
func (w *Way) StepHeight() int { return stepHeight }

// wayStep is a step before it has a place.
type wayStep struct {
	step Step
	next []*wayStep
}

func newStep(label, text string, source *simulate.Source) *wayStep {
	return newStepOf(label, text, text, source)
}

// newStepOf is a step whose text is short for something.
func newStepOf(label, text, whole string, source *simulate.Source) *wayStep {
	s := &wayStep{step: Step{Label: label, Text: text, Title: label + ": " + whole}}
	if source != nil {
		s.step.Title += " (" + source.String() + ")"
	}
	if r := []rune(text); len(r) > maxStepText {
		s.step.Text = string(r[:maxStepText-1]) + "…"
	}
	return s
}

func (s *wayStep) then(next *wayStep) *wayStep {
	s.next = append(s.next, next)
	return next
}

func (s *wayStep) end(kind string) { s.step.Kind = kind }

// wayOf draws an answer.
func wayOf(a *simulate.Answer) *Way {
	client := newStep("client", a.From, nil)
	through(client, a.Hop, 0)
	w := &Way{}
	w.place(client, 0)
	w.Width += margin
	w.Height += margin
	return w
}

// through adds what one proxy decides.
func through(at *wayStep, h *simulate.Hop, depth int) {
	if h == nil || depth > maxOnEach {
		return
	}
	if d := h.Listener; d != nil && d.Name != "" && h.Side != "inbound" {
		at = at.then(newStep("listener", d.Name, d.Source))
	}
	if d := h.Chain; d != nil && d.Name != "" && h.Side == "inbound" {
		at = at.then(newStep("inbound chain", d.Name, d.Source))
	}
	for i := range h.Filters {
		v := &h.Filters[i]
		word := "denied"
		if v.Allowed {
			word = "allowed"
		}
		if v.Dry {
			word = "would be " + word
		}
		at = at.then(newStep("policy: "+shortFilter(v.Filter), word, v.Source))
	}
	switch d := h.Route; {
	case h.Side == "inbound":
	case d != nil && d.Name != "":
		at = at.then(newStep("route", d.Name, d.Source))
	case h.VirtualHost != nil && h.VirtualHost.Name != "":
		at = at.then(newStep("virtual host", h.VirtualHost.Name, h.VirtualHost.Source))
	}
	if h.Reply != nil {
		ends(at, h.Reply)
		return
	}
	for i := range h.To {
		d := &h.To[i]
		if i == maxBranches {
			at.then(newStep("", fmt.Sprintf("and %d more", len(h.To)-i), nil))
			return
		}
		if h.Side == "inbound" {
			toApplication(at, h, d)
			continue
		}
		cluster := at.then(newStepOf("cluster", clusterText(d.Cluster), d.Cluster, d.Source))
		if len(h.To) > 1 {
			cluster.step.Label += ", " + Percent(d.Percent)
		}
		toEndpoints(cluster, d, depth)
	}
}

// clusterText is the subset and host of a cluster.
func clusterText(name string) string {
	parts := strings.Split(name, "|") // direction, port, subset, host
	if len(parts) != 4 || parts[3] == "" {
		return name
	}
	short, _, _ := strings.Cut(parts[3], ".svc.")
	return strings.TrimSpace(parts[2] + " " + short)
}

func toEndpoints(cluster *wayStep, d *simulate.Destination, depth int) {
	if d.Reply != nil {
		ends(cluster, d.Reply)
		return
	}
	shown, left := 0, 0
	for i := range d.Endpoints {
		ep := &d.Endpoints[i]
		if ep.Percent == 0 {
			continue
		}
		if shown++; shown > maxBranches {
			left++
			continue
		}
		name := ep.Workload
		if name == "" {
			name = ep.Address
		}
		s := cluster.then(newStep("endpoint", name, ep.Source))
		s.step.Title = "endpoint: " + endpointText(ep)
		if ep.Percent < 100 {
			s.step.Label += ", " + Percent(ep.Percent)
		}
		if ep.Server == nil {
			s.end("good")
			continue
		}
		through(s, ep.Server, depth+1)
	}
	if left > 0 {
		cluster.then(newStep("", fmt.Sprintf("and %d more", left), nil))
	}
}

func toApplication(at *wayStep, h *simulate.Hop, d *simulate.Destination) {
	if d.Reply != nil {
		ends(at, d.Reply)
		return
	}
	_, workload, _ := strings.Cut(h.Proxy, " ")
	at.then(newStep("application", workload, d.Source)).end("good")
}

// ends is where a proxy answers by itself.
func ends(at *wayStep, r *simulate.Reply) {
	text := r.Reason
	if r.Status != 0 {
		text = fmt.Sprintf("%d: %s", r.Status, r.Reason)
	}
	at.then(newStep("answers", text, r.Source)).end("bad")
}

// place puts a step and what follows it below what is there already, and says
// where its middle is.
func (w *Way) place(s *wayStep, column int) (middle int) {
	s.step.X = margin + column*(stepWidth+stepAcross)
	w.Width = max(w.Width, s.step.X+stepWidth)
	if len(s.next) == 0 {
		s.step.Y = max(w.Height+stepDown, margin)
		w.Height = s.step.Y + stepHeight
		w.Steps = append(w.Steps, s.step)
		return s.step.Y + stepHeight/2
	}
	ys := make([]int, len(s.next))
	for i, n := range s.next {
		ys[i] = w.place(n, column+1)
	}
	middle = (ys[0] + ys[len(ys)-1]) / 2
	s.step.Y = middle - stepHeight/2
	w.Steps = append(w.Steps, s.step)
	for i := range s.next {
		from, to := s.step.X+stepWidth, s.step.X+stepWidth+stepAcross
		half := from + stepAcross/2
		w.Lines = append(w.Lines, fmt.Sprintf("M%d %dC%d %d %d %d %d %d", from, middle, half, middle, half, ys[i], to, ys[i]))
	}
	return middle
}
