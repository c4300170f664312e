package rollout

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Preview says what Run would do, and asks everything that Run relies on: the
// API server whether it takes each step, the control plane, and Prometheus.
func (r *Rollout) Preview(ctx context.Context) (*Preview, error) {
	p := &r.Plan
	r.stage = -1
	out := &Preview{Namespace: p.Namespace, Name: p.Name, To: p.To, Mode: p.Mode, Before: []RuleWeights{}, Steps: []PreviewStep{}}
	err := r.prepare(ctx)
	if errors.Is(err, errPromoted) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if r.stage >= 0 {
		out.Resumes = r.stage + 1
	}
	http, err := restored(r.target.http(), r.state.Edits)
	if err != nil {
		return nil, err
	}
	out.Before = r.weights(http)
	for _, s := range r.state.Stages {
		http, err := at(r.target.http(), r.state.Edits, s)
		if err != nil {
			return nil, err
		}
		if err := r.target.apply(ctx, http, r.state, true); err != nil {
			return nil, fmt.Errorf("step %v: %w", s, err)
		}
		out.Steps = append(out.Steps, PreviewStep{s, r.weights(http)})
	}
	d, err := distribution(ctx, r.Replicas, p.Namespace, p.Name, r.target.object.GetGeneration())
	if err != nil {
		return nil, err
	}
	out.Proxies = d.proxies
	now, err := r.Metrics.read(ctx, r.sides)
	if err != nil {
		return nil, err
	}
	o := observe(map[series]float64{})
	o.add(now)
	out.New, out.Old = figures(o.new), figures(o.old)
	return out, nil
}

func (r *Rollout) weights(http []any) []RuleWeights {
	out := []RuleWeights{}
	for _, e := range r.state.Edits {
		o, _ := http[e.Rule].(map[string]any)
		list, _ := o["route"].([]any)
		w := RuleWeights{Rule: e.Rule, Name: e.Name, Weights: weights(list)}
		if mirror, ok := o["mirror"].(map[string]any); ok {
			share, _ := o["mirrorPercentage"].(map[string]any)
			w.Weights += fmt.Sprintf("; copies of %v%% to %v", share["value"], weightsName(mirror))
		}
		out = append(out, w)
	}
	return out
}

func weightsName(to map[string]any) any {
	if subset, _ := to["subset"].(string); subset != "" {
		return subset
	}
	return to["host"]
}

// summary tells a step's figures on one line.
func summary(s *Step) string {
	var parts []string
	for name, of := range map[string]map[string]Figures{"new": s.New, "old": s.Old} {
		// Both sides saw the same requests: the one that saw more tells.
		var most Figures
		for _, f := range of {
			if f.Requests >= most.Requests {
				most = f
			}
		}
		if most.Requests > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f requests, %s failed, p99 %.0f ms", name, most.Requests, percent(most.ErrorRate), most.P99))
		}
	}
	if len(parts) == 0 {
		return "no requests seen yet"
	}
	sort.Strings(parts)
	return strings.Join(parts, "; ")
}
