package kube

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// view is the last good state as a file. While the API server is away at the
// start, what the file holds is in effect; what the server says later replaces
// it. All methods but staleSince belong to Source.apply's goroutine.
type view struct {
	path, server string
	pace         time.Duration
	log          *zap.Logger

	// objects is what is in effect; nil without a path.
	objects map[config.Key]discovery.Object
	// saved are the keys that came from the file and that the server has not
	// confirmed.
	saved   map[config.Key]bool
	changed bool // since the last save
	failed  bool // the last save failed
	next    time.Time

	failures atomic.Uint64 // of all saves

	mu    sync.Mutex
	stale time.Time // when the file in effect was saved; zero if none is
}

func newView(path, server string, pace time.Duration, log *zap.Logger) *view {
	v := &view{path: path, server: server, pace: pace, log: log}
	if path != "" {
		v.objects = map[config.Key]discovery.Object{}
	}
	return v
}

// staleSince is when the state in effect was saved; zero if it is the API
// server's.
func (v *view) staleSince() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stale
}

func (v *view) setStale(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stale = at
}

// restore returns what the file holds; nothing if it cannot be used.
func (v *view) restore() []discovery.Change {
	if v.path == "" {
		return nil
	}
	objects, at, err := load(v.path, v.server)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			v.log.Error("the saved state is not used", zap.Error(err))
		}
		return nil
	}
	v.saved = map[config.Key]bool{}
	var out []discovery.Change
	for _, o := range objects {
		if _, known := v.objects[o.Meta.Key]; known {
			continue // the server was faster
		}
		v.saved[o.Meta.Key] = true
		out = append(out, discovery.Change{Object: o})
	}
	v.setStale(at)
	v.log.Warn("API server is away: serving the state that was saved", zap.Time("of", at), zap.Int("objects", len(objects)))
	return out
}

// note takes in what the server says.
func (v *view) note(changes []discovery.Change) {
	if v.objects == nil {
		return
	}
	for _, c := range changes {
		key := c.Object.Meta.Key
		delete(v.saved, key)
		if c.Deleted {
			delete(v.objects, key)
		} else {
			v.objects[key] = c.Object
		}
		v.changed = v.changed || !unsaved(key)
	}
}

// caughtUp returns the ends of what was saved and is no more, now that all that
// exists is known.
func (v *view) caughtUp() []discovery.Change {
	var out []discovery.Change
	for key := range v.saved {
		out = append(out, discovery.Change{Object: discovery.Object{Meta: config.Meta{Key: key}}, Deleted: true})
	}
	if since := v.staleSince(); !since.IsZero() {
		v.log.Info("caught up with the API server", zap.Time("saved", since), zap.Int("gone since", len(out)))
	}
	v.saved = nil
	v.setStale(time.Time{})
	return out
}

// keep saves the state if it has changed and it is time, or this is the end.
func (v *view) keep(now time.Time, end bool) {
	if v.objects == nil || !v.changed || !end && now.Before(v.next) {
		return
	}
	err := save(v.path, v.server, slices.Collect(maps.Values(v.objects)), now)
	// Saving takes at most a twentieth of the time.
	v.next = time.Now().Add(max(v.pace, 20*time.Since(now)))
	v.changed = err != nil
	if err != nil {
		v.failures.Add(1)
	}
	if (err != nil) != v.failed {
		v.failed = err != nil
		if err != nil {
			v.log.Error("the state cannot be saved: the file is as old as it was", zap.Error(err))
		} else {
			v.log.Info("the state is saved again")
		}
	}
}

// Stale is when the state in effect was saved, if it is not the API server's
// but the one of Options.Saved; else zero.
func (s *Source) Stale() time.Time { return s.view.staleSince() }

// SaveFailures counts how often the state could not be saved.
func (s *Source) SaveFailures() uint64 { return s.view.failures.Load() }

// waitAway returns true if the API server stays away for a while before synced
// is closed.
func (s *Source) waitAway(ctx context.Context, synced <-chan struct{}) bool {
	again := time.NewTicker(s.options.Patience / 4)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-synced:
			return false
		case <-again.C:
			if s.health.awayFor(time.Now()) >= s.options.Patience {
				return true
			}
		}
	}
}
