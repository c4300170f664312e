package serve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// The conditions that are ours.
const (
	reconciled       = "Reconciled"
	passedValidation = "PassedValidation"
)

// condition is one of an object's status (istio.io/api meta IstioCondition).
type condition struct {
	Type               string  `json:"type"`
	Status             string  `json:"status"`
	Reason             string  `json:"reason,omitempty"`
	Message            string  `json:"message,omitempty"`
	LastProbeTime      string  `json:"lastProbeTime,omitempty"`
	LastTransitionTime string  `json:"lastTransitionTime,omitempty"`
	ObservedGeneration counter `json:"observedGeneration,omitempty"`
}

// counter is an int64 that others may have written as a text, as protobuf does.
type counter int64

// UnmarshalJSON implements json.Unmarshaler. What is no number is 0.
func (c *counter) UnmarshalJSON(text []byte) error {
	n, _ := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	*c = counter(n)
	return nil
}

// objectStatus is the part of an object's status that is ours (IstioStatus).
type objectStatus struct {
	Conditions         []condition         `json:"conditions"`
	ValidationMessages []validationMessage `json:"validationMessages"`
	ObservedGeneration counter             `json:"observedGeneration"`
}

// validationMessage is an AnalysisMessageBase.
type validationMessage struct {
	Type struct {
		Name string `json:"name"`
		Code string `json:"code"`
	} `json:"type"`
	Level string `json:"level"`
}

// merged puts our conditions into a list that others may have theirs in; same
// says that nothing in it differs but times.
func merged(has []json.RawMessage, ours []condition, now time.Time) (out []any, same bool) {
	at, had := now.UTC().Format(time.RFC3339), map[string]condition{}
	for _, raw := range has {
		var c condition
		if json.Unmarshal(raw, &c) == nil && slices.ContainsFunc(ours, func(o condition) bool { return o.Type == c.Type }) {
			had[c.Type] = c
			continue
		}
		out = append(out, raw)
	}
	same = len(had) == len(ours)
	for _, c := range ours {
		was := had[c.Type]
		c.LastProbeTime, c.LastTransitionTime = at, at
		if was.Status == c.Status && was.LastTransitionTime != "" {
			c.LastTransitionTime = was.LastTransitionTime
		}
		was.LastProbeTime, was.LastTransitionTime = c.LastProbeTime, c.LastTransitionTime
		same = same && was == c
		out = append(out, c)
	}
	return out, same
}

// text is what a standing says, and the counts in it.
func (s *standing) text() (text, count string) {
	status, _ := s.status(s.generation)
	for i := range status.Conditions {
		if c := &status.Conditions[i]; c.Type == reconciled && c.Status == "True" {
			count, c.Message = c.Message, ""
		}
	}
	return fmt.Sprint(status), count
}

// status is what an object's status is to say; not ok if the mesh has not read
// the generation that the API server has.
func (s *standing) status(generation int64) (out objectStatus, ok bool) {
	var faults, warnings []config.Problem
	waiting := ""
	for _, p := range s.problems {
		switch {
		case p.Severity == config.Error:
			faults = append(faults, p)
		default:
			warnings = append(warnings, p)
		}
		if p.Code == "Waiting" {
			waiting = p.Message
		}
	}
	c := condition{Type: reconciled, Status: "False", ObservedGeneration: counter(generation)}
	before := "nothing of the object is in effect"
	if s.generation != 0 {
		before = fmt.Sprintf("generation %d stays in effect", s.generation)
	}
	switch behind := s.generation != generation; {
	case behind && waiting != "":
		c.Reason, c.Message = "Waiting", waiting
	case behind && len(faults) > 0:
		c.Reason, c.Message = "Refused", faults[0].Message+"; "+before
	case behind:
		return out, false
	case s.proxies == 0:
		c.Status, c.Reason, c.Message = "True", "NoProxies", "no proxy is connected"
	case s.holders == s.proxies:
		c.Status, c.Reason = "True", "InEffect"
	default:
		c.Reason = "Distributing"
	}
	if c.Message == "" {
		c.Message = fmt.Sprintf("%d of %d proxies have this version", s.holders, s.proxies)
	}
	out.ObservedGeneration = counter(generation)
	out.Conditions = []condition{c, validation(generation, faults, warnings)}
	out.ValidationMessages = []validationMessage{}
	for _, p := range append(faults, warnings...) {
		m := validationMessage{Level: strings.ToUpper(p.Severity.String())}
		m.Type.Name, m.Type.Code = p.Code, p.Code
		if !slices.Contains(out.ValidationMessages, m) {
			out.ValidationMessages = append(out.ValidationMessages, m)
		}
	}
	return out, true
}

// mostTold bounds the problems that a condition's message holds.
const mostTold = 10

func validation(generation int64, faults, warnings []config.Problem) condition {
	c := condition{Type: passedValidation, Status: "True", Reason: "Valid", ObservedGeneration: counter(generation)}
	all := append(slices.Clone(faults), warnings...)
	slices.SortStableFunc(all, func(a, b config.Problem) int { return cmp.Compare(b.Severity, a.Severity) })
	switch {
	case len(faults) > 0:
		c.Status, c.Reason = "False", faults[0].Code
	case len(warnings) > 0:
		c.Reason = warnings[0].Code
	}
	var lines []string
	for i, p := range all {
		if i == mostTold {
			lines = append(lines, fmt.Sprintf("and %d more", len(all)-mostTold))
			break
		}
		line := fmt.Sprintf("%s: %s (%s)", p.Severity, p.Message, p.Code)
		if p.Field != "" {
			line = fmt.Sprintf("%s: %s: %s (%s)", p.Severity, p.Field, p.Message, p.Code)
		}
		lines = append(lines, line)
	}
	c.Message = strings.Join(lines, "\n")
	return c
}
