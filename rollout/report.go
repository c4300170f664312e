package rollout

import "time"

// Result is how a rollout ended.
type Result string

// The results.
const (
	Promoted   Result = "promoted"   // the new version has what the last step gives it
	Mirrored   Result = "mirrored"   // it kept the limits with copies of requests
	RolledBack Result = "rolledBack" // the weights are as they were before
	Left       Result = "left"       // the weights are those of the last step that was reached
)

// Report is what a rollout did.
type Report struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"virtualService"`
	Route     string    `json:"route,omitempty"`
	To        string    `json:"to"`
	Mode      Mode      `json:"mode"`
	Result    Result    `json:"result"`
	Reason    string    `json:"reason,omitempty"` // why it is no promotion
	Resumed   bool      `json:"resumed,omitempty"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"`
	Steps     []Step    `json:"steps"` // those that were begun, in order
}

// Step is one stage as it went.
type Step struct {
	Stage
	Started time.Time `json:"started"`
	// Acknowledged is when every proxy had taken up the step's weights.
	Acknowledged *time.Time `json:"acknowledged,omitempty"`
	Proxies      int        `json:"proxies,omitempty"` // that did
	Ended        time.Time  `json:"ended"`
	// New and Old are what the proxies of clients (source) and servers
	// (destination) told of the two versions since then.
	New map[string]Figures `json:"new,omitempty"`
	Old map[string]Figures `json:"old,omitempty"`
	// Passed is whether all limits were kept; Reason is why not.
	Passed bool   `json:"passed"`
	Reason string `json:"reason,omitempty"`
}

// Figures are requests to one version.
type Figures struct {
	Requests  float64 `json:"requests"`
	Errors    float64 `json:"errors"`
	ErrorRate float64 `json:"errorRate"`                // between 0 and 1
	P99       float64 `json:"p99Milliseconds,omitzero"` // 0 without requests
}

func figures(of map[string]*counts) map[string]Figures {
	out := map[string]Figures{}
	for reporter, c := range of {
		f := Figures{Requests: c.requests, Errors: c.errors, ErrorRate: share(c.errors, c.requests)}
		f.P99, _ = c.p99()
		out[reporter] = f
	}
	return out
}

// Event is something that a display shows.
type Event struct {
	Time    time.Time
	Message string
	// Tick marks news of a step in progress, of which only the latest counts.
	Tick bool
	// Stage is the step in progress, from 1, of Stages; 0 before the first.
	Stage, Stages int
	Percent       int
	// Watched is for how long the step has been watched, of Interval.
	Watched, Interval time.Duration
}

// Preview is what a rollout would do.
type Preview struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"virtualService"`
	To        string        `json:"to"`
	Mode      Mode          `json:"mode"`
	Resumes   int           `json:"resumes,omitempty"` // the step that it would go on with, from 1
	Before    []RuleWeights `json:"before"`
	Steps     []PreviewStep `json:"steps"`
	// New and Old are the sums since the proxies started.
	New map[string]Figures `json:"new,omitempty"`
	Old map[string]Figures `json:"old,omitempty"`
	// Proxies is how many there are to wait for.
	Proxies int `json:"proxies"`
}

// PreviewStep is a stage with the weights that it brings.
type PreviewStep struct {
	Stage
	Rules []RuleWeights `json:"rules"`
}

// RuleWeights are those of one rule, for people.
type RuleWeights struct {
	Rule    int    `json:"rule"` // its place in spec.http
	Name    string `json:"name,omitempty"`
	Weights string `json:"weights"`
}
