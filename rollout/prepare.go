package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"reflect"
)

// prepare reads the object and decides what to change in it.
func (r *Rollout) prepare(ctx context.Context) error {
	p := &r.Plan
	var err error
	if r.target, err = find(ctx, r.Client, p.Namespace, p.Name); err != nil {
		return err
	}
	if by := managedBy(r.target.object); by != "" && !p.Force {
		return fmt.Errorf("%w: VirtualService %s/%s is managed by %s, which would set its routes back (--force overrides this)", ErrRefused, p.Namespace, p.Name, by)
	}
	known := &subsets{client: r.Client, version: r.target.version, namespace: p.Namespace, root: r.Root}
	left, err := r.target.state()
	if err != nil {
		return fmt.Errorf("%w; remove it if no rollout is in progress", err)
	}
	if left != nil {
		err = r.resume(left)
	} else {
		err = r.begin(ctx, known)
	}
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	r.state.Holder = host + "/" + rand.Text()[:8]
	return r.chooseSides(ctx, known)
}

// begin decides on the rules of a new rollout.
func (r *Rollout) begin(ctx context.Context, known *subsets) error {
	p := &r.Plan
	var failed error
	list, err := chooseRules(r.target.http(), p.To, p.Route, func(host string) bool {
		_, ok, err := known.labels(ctx, host, p.To)
		failed = errors.Join(failed, err)
		return ok
	})
	if failed != nil {
		return failed
	}
	if errors.Is(err, errPromoted) {
		return err
	}
	if err != nil {
		return fmt.Errorf("VirtualService %s/%s: %w", p.Namespace, p.Name, err)
	}
	stages := p.Stages()
	now := 100
	for i := range list {
		list[i].named(p.To)
		now = min(now, list[i].share())
	}
	// A step below what the version has already would take from it.
	for len(stages) > 1 && !stages[0].Mirror && stages[0].Percent < now {
		stages = stages[1:]
	}
	r.state = &state{To: p.To, Route: p.Route, Mode: p.Mode, Stages: stages, Edits: list}
	return nil
}

// resume takes up a rollout that another process left in progress.
func (r *Rollout) resume(left *state) error {
	p := &r.Plan
	if left.To != p.To || left.Route != p.Route || left.Mode != p.Mode || !sameEnd(left.Stages, p.Stages()) {
		return fmt.Errorf("%w: a rollout of %s/%s to %q in steps %v is in progress at %v: give the same --to, --steps, --mode and --route to go on with it, or --abort to undo it",
			ErrRefused, p.Namespace, p.Name, left.To, left.Stages, left.Stages[left.Stage])
	}
	if err := r.unchanged(left); err != nil {
		return err
	}
	r.state = left
	r.stage = left.Stage
	r.say("goes on at step %d of %d, %v, where another run left it", left.Stage+1, len(left.Stages), left.Stages[left.Stage])
	return nil
}

// sameEnd reports whether the stages of a rollout are those of a Plan, but for
// first ones that the rollout skipped.
func sameEnd(left, planned []Stage) bool {
	return len(left) <= len(planned) && reflect.DeepEqual(left, planned[len(planned)-len(left):])
}

// unchanged checks that the routes are those that a rollout left.
func (r *Rollout) unchanged(left *state) error {
	want, err := at(r.target.http(), left.Edits, left.Stages[left.Stage])
	if err == nil && !sameJSON(want, r.target.http()) {
		err = errors.New("its weights are not those of that step")
	}
	if err != nil {
		return fmt.Errorf("%w: %s/%s was changed by %s since a rollout was left in progress: %w; remove annotation %s to begin anew",
			ErrRefused, r.Plan.Namespace, r.Plan.Name, writers(r.target.object), err, stateNote)
	}
	return nil
}

// chooseSides finds out how metrics name the versions.
func (r *Rollout) chooseSides(ctx context.Context, known *subsets) error {
	p := &r.Plan
	name := func(d destination, said string) (side, error) {
		s := side{host: hostOf(d.Host, p.Namespace), version: said}
		if d.Subset == "" || said != "" {
			return s, nil
		}
		labels, _, err := known.labels(ctx, d.Host, d.Subset)
		if s.version = versionOf(labels); s.version == "" {
			s.version = d.Subset
		}
		return s, err
	}
	for _, e := range r.state.Edits {
		to, err := name(readDestination(map[string]any{"destination": e.Destination}), p.ToVersion)
		if err != nil {
			return err
		}
		r.sides.to = append(r.sides.to, to)
		for i, entry := range e.Route {
			if i == e.Target {
				continue
			}
			from, err := name(readDestination(entry), "")
			if err != nil {
				return err
			}
			versions := p.FromVersions
			if len(versions) == 0 {
				versions = []string{from.version}
			}
			for _, v := range versions {
				from.version = v
				r.sides.from = append(r.sides.from, from)
			}
		}
	}
	return nil
}

// ready checks, before anything is changed, that what the rollout relies on
// answers.
func (r *Rollout) ready(ctx context.Context) error {
	d, err := distribution(ctx, r.Replicas, r.Plan.Namespace, r.Plan.Name, r.target.object.GetGeneration())
	if err != nil {
		return err
	}
	r.before = d.rejected
	if r.stage >= 0 {
		return nil // in progress: what is away now may come back until the deadline
	}
	_, err = r.Metrics.read(ctx, r.sides)
	return err
}
