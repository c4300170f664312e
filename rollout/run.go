package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/dynamic"

	"github.com/pilotfish-mesh/pilotfish/replicas"
)

// A Rollout is one run of a Plan. It is made whole and used once.
type Rollout struct {
	Plan     Plan // checked
	Client   dynamic.Interface
	Root     string // the mesh's root namespace, istio-system
	Replicas replicas.Set
	Metrics  *Metrics
	// Progress is told what happens, from one goroutine; it must not block.
	Progress func(Event)

	target *target
	state  *state
	sides  sides
	before []string // what proxies rejected before the rollout
	report Report
	stage  int // in progress; -1 before the first
}

// ErrRefused is the cause of errors of Run and Preview for objects that are
// somebody else's.
var ErrRefused = errors.New("refused")

// beat is how often a state is looked at: often enough for the interval.
func (p *Plan) beat() time.Duration {
	return min(max(p.Interval/12, 500*time.Millisecond), 15*time.Second)
}

// Run carries the Plan out. An error means that nothing was changed; else the
// Report says how it went. If ctx ends, the rollout is rolled back, or left as
// it is with Plan.Keep.
func (r *Rollout) Run(ctx context.Context) (*Report, error) {
	p := &r.Plan
	r.stage = -1
	r.report = Report{
		Namespace: p.Namespace, Name: p.Name, Route: p.Route, To: p.To, Mode: p.Mode, Started: time.Now().UTC(), Steps: []Step{},
	}
	err := r.prepare(ctx)
	if errors.Is(err, errPromoted) && p.Mode != Mirror {
		return r.end(Promoted, err.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	r.report.Resumed = r.stage >= 0
	first := r.state.Stage
	for i := first; i < len(r.state.Stages); i++ {
		step := Step{Stage: r.state.Stages[i], Started: time.Now().UTC()}
		err := r.step(ctx, i, &step)
		if r.stage < 0 {
			return nil, err // nothing was applied
		}
		step.Ended, step.Passed = time.Now().UTC(), err == nil
		if err != nil {
			step.Reason = err.Error()
		}
		r.report.Steps = append(r.report.Steps, step)
		if err != nil {
			return r.undo(ctx, err), nil
		}
	}
	return r.finish(ctx), nil
}

// step carries out one stage; an error says why it was no success.
func (r *Rollout) step(ctx context.Context, i int, step *Step) error {
	deadline, cancel := context.WithTimeoutCause(ctx, r.Plan.Deadline, errDeadline)
	defer cancel()
	if err := r.applyStage(deadline, i); err != nil {
		return err
	}
	if err := r.acknowledged(deadline, step); err != nil {
		return err
	}
	return r.watch(deadline, step)
}

// errDeadline is the cause of a step's context that took too long.
var errDeadline = errors.New("deadline")

// late turns the end of a step's context into words; held is what it waited
// for.
func (r *Rollout) late(ctx context.Context, held string) error {
	if !errors.Is(context.Cause(ctx), errDeadline) {
		return errInterrupted
	}
	return fmt.Errorf("no verdict within %v: %s", r.Plan.Deadline, held)
}

var errInterrupted = errors.New("interrupted")

// applyStage writes a stage's weights.
func (r *Rollout) applyStage(ctx context.Context, i int) error {
	s := *r.state
	s.Stage = i
	held := ""
	for {
		http, err := at(r.target.http(), s.Edits, s.Stages[i])
		if err != nil {
			return errLost{err.Error()}
		}
		err = r.target.apply(ctx, http, &s, false)
		if err == nil {
			r.state, r.stage = &s, i
			r.note(false, 0, "%v of requests go to %s", s.Stages[i], s.To)
			return nil
		}
		if final(err) || r.stage < 0 && !apierrors.IsConflict(err) {
			return err
		}
		held = err.Error()
		if lost := r.target.look(ctx); lost != nil && final(lost) {
			return lost
		}
		pause := r.Plan.beat()
		if apierrors.IsConflict(err) {
			pause = 100 * time.Millisecond // its status was written, or its labels
		}
		if !wait(ctx, pause) {
			return r.late(ctx, held)
		}
	}
}

// final reports whether the API server will say the same the next time.
func final(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsNotFound(err) || errors.As(err, new(errLost))
}

// acknowledged waits until every proxy has taken up the present weights.
func (r *Rollout) acknowledged(ctx context.Context, step *Step) error {
	held := ""
	for {
		d, err := distribution(ctx, r.Replicas, r.Plan.Namespace, r.Plan.Name, r.target.object.GetGeneration())
		switch {
		case err != nil:
			held = err.Error()
		default:
			for _, why := range d.rejected {
				if !slices.Contains(r.before, why) {
					return errors.New(why)
				}
			}
			if d.done() {
				now := time.Now().UTC()
				step.Acknowledged, step.Proxies = &now, d.proxies
				r.note(false, 0, "%v", d)
				return nil
			}
			held = d.String()
		}
		r.note(true, 0, "%s", held)
		// Changes travel in fractions of a second.
		if !wait(ctx, min(r.Plan.beat(), time.Second)) {
			return r.late(ctx, held)
		}
	}
}

// watch looks at the metrics for the interval, and then until there is a
// verdict.
func (r *Rollout) watch(ctx context.Context, step *Step) error {
	var o *observation
	began := time.Now()
	held := ""
	for {
		v, reason := r.look(ctx, &o)
		if o != nil {
			step.New, step.Old = figures(o.new), figures(o.old)
		}
		watched := time.Since(began)
		switch {
		case v == breach:
			return errors.New(reason)
		case v == pass && watched >= r.Plan.Interval:
			r.note(false, watched, "%v passed: %s", step.Stage, summary(step))
			return nil
		case reason != held && reason != "" && watched >= r.Plan.Interval:
			r.note(false, watched, "holds: %s", reason)
		default:
			r.note(true, watched, "%s", summary(step))
		}
		if watched >= r.Plan.Interval {
			held = reason
		}
		if err := r.target.look(ctx); errors.As(err, new(errLost)) {
			return err
		}
		if !wait(ctx, r.Plan.beat()) {
			return r.late(ctx, reason)
		}
	}
}

// look takes one reading and judges all so far.
func (r *Rollout) look(ctx context.Context, o **observation) (verdict, string) {
	now, err := r.Metrics.read(ctx, r.sides)
	if err != nil {
		return hold, err.Error()
	}
	if *o == nil {
		*o = observe(now)
		return hold, errNoData.Error()
	}
	(*o).add(now)
	return r.Plan.judge(*o)
}

// wait returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Rollout) say(format string, args ...any) { r.note(false, 0, format, args...) }

func (r *Rollout) note(tick bool, watched time.Duration, format string, args ...any) {
	if r.Progress == nil {
		return
	}
	e := Event{
		Time: time.Now(), Message: fmt.Sprintf(format, args...), Tick: tick,
		Watched: min(watched, r.Plan.Interval), Interval: r.Plan.Interval,
	}
	if r.state != nil && r.stage >= 0 {
		e.Stage, e.Stages, e.Percent = r.stage+1, len(r.state.Stages), r.state.Stages[r.stage].Percent
	}
	r.Progress(e)
}
