package rollout

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Mode is how the new version gets traffic.
type Mode string

// The modes.
const (
	// Canary raises the new version's weight step by step.
	Canary Mode = "canary"
	// BlueGreen gives it everything at once.
	BlueGreen Mode = "blue-green"
	// Mirror sends it copies of requests, whose answers are thrown away, and
	// ends with the weights as they were.
	Mirror Mode = "mirror"
)

// Plan is what a user asks for. Shares are between 0 and 1.
type Plan struct {
	Namespace, Name string // of the VirtualService
	To              string // a subset, or the host of a destination without one
	Route           string // name of the one http rule to change; empty: all that have the version
	Mode            Mode
	Steps           []int // percentages, rising; those of Mirror are of copies
	MirrorFirst     bool  // copies of all requests for one interval before the first step

	Interval time.Duration // how long each step is watched, at the least
	Deadline time.Duration // how long a step may take before it is rolled back

	MaxErrorRate     float64       // of the new version; negative: no limit
	MaxErrorIncrease float64       // over the old version's; negative: no limit
	MaxP99           time.Duration // 0: no limit
	MinRequests      int           // to the new version, before a verdict

	// ToVersion and FromVersions are label values that metrics name the
	// versions by, where the subsets' labels do not say so.
	ToVersion    string
	FromVersions []string

	Force bool // also if a controller manages the object
	Keep  bool // an interrupted rollout stays where it is
}

// DefaultDeadline is the Deadline of a Plan that names none.
func (p *Plan) DefaultDeadline() time.Duration { return max(5*p.Interval, time.Minute) }

// Check says what is wrong with the Plan, and fills in what it leaves open.
func (p *Plan) Check() error {
	if p.Name == "" || p.Namespace == "" {
		return errors.New("want the VirtualService's name and namespace")
	}
	if p.To == "" {
		return errors.New("--to is missing: the subset, or the host, of the new version")
	}
	switch p.Mode {
	case Canary:
	case BlueGreen:
		if len(p.Steps) > 0 {
			return errors.New("--steps: mode blue-green has one step, to 100")
		}
	case Mirror:
		if p.MirrorFirst {
			return errors.New("--mirror-first: mode mirror does nothing else")
		}
	default:
		return fmt.Errorf("--mode %q: want canary, blue-green or mirror", p.Mode)
	}
	if len(p.Steps) == 0 {
		p.Steps = []int{100}
	}
	if err := checkSteps(p.Steps); err != nil {
		return err
	}
	if p.Mode == Canary && p.Steps[len(p.Steps)-1] != 100 {
		p.Steps = append(slices.Clone(p.Steps), 100)
	}
	return p.checkLimits()
}

func checkSteps(steps []int) error {
	last := 0
	for _, s := range steps {
		if s <= last || s > 100 {
			return fmt.Errorf("--steps %v: want rising percentages from 1 to 100", steps)
		}
		last = s
	}
	return nil
}

func (p *Plan) checkLimits() error {
	if p.Interval <= 0 {
		return fmt.Errorf("--interval %v: want more than nothing", p.Interval)
	}
	if p.Deadline == 0 {
		p.Deadline = p.DefaultDeadline()
	}
	if p.Deadline <= p.Interval {
		return fmt.Errorf("--deadline %v: want more than the interval, %v", p.Deadline, p.Interval)
	}
	if p.MaxErrorRate > 1 || p.MaxErrorIncrease > 1 {
		return errors.New("--max-error-rate and --max-error-increase: want at most 100%")
	}
	if p.MaxErrorRate < 0 && p.MaxErrorIncrease < 0 && p.MaxP99 == 0 {
		return errors.New("no limit is set: nothing could stop a bad version")
	}
	if p.MaxP99 < 0 {
		return fmt.Errorf("--max-p99 %v: want no negative duration", p.MaxP99)
	}
	if p.MinRequests < 1 {
		return fmt.Errorf("--min-requests %d: want at least 1", p.MinRequests)
	}
	return nil
}

// Stage is one step of a rollout.
type Stage struct {
	Percent int  `json:"percent"`
	Mirror  bool `json:"mirror,omitempty"` // copies, not the requests themselves
}

// String is for people.
func (s Stage) String() string {
	if s.Mirror {
		return fmt.Sprintf("mirror %d%%", s.Percent)
	}
	return fmt.Sprintf("%d%%", s.Percent)
}

// Stages are the Plan's, in order.
func (p *Plan) Stages() []Stage {
	var out []Stage
	if p.MirrorFirst {
		out = append(out, Stage{Percent: 100, Mirror: true})
	}
	for _, s := range p.Steps {
		out = append(out, Stage{Percent: s, Mirror: p.Mode == Mirror})
	}
	return out
}
