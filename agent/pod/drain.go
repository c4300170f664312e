package pod

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

// drainer lets a stopping proxy finish what it began.
type drainer struct {
	settings *settings
	admin    *admin
	log      *zap.Logger
	// drained: draining has begun before the end was asked for (a preStop hook
	// of a native sidecar), so that there is nothing more to wait for.
	drained atomic.Bool
}

func (d *drainer) begin(ctx context.Context) error {
	return d.admin.drain(ctx, d.settings.Type == Sidecar)
}

// now begins to drain and lets a later end be immediate.
func (d *drainer) now(ctx context.Context) error {
	d.drained.Store(true)
	return d.begin(ctx)
}

// lookEvery is how often active connections are counted.
const lookEvery = time.Second

// finish drains and returns when Envoy may end, at the latest when ctx ends.
func (d *drainer) finish(ctx context.Context) {
	if d.drained.Load() {
		return
	}
	if err := d.begin(ctx); err != nil {
		d.log.Warn("Envoy does not drain", zap.Error(err))
	}
	if !d.settings.exitOnZero {
		grace := time.Duration(d.settings.proxy.TerminationDrainDuration)
		d.log.Info("draining", zap.Duration("for", grace))
		retry.Wait(ctx, grace)
		return
	}
	d.log.Info("draining until the last connection is closed", zap.Duration("at_least", d.settings.minimumDrain))
	retry.Wait(ctx, d.settings.minimumDrain)
	for failures := 0; ctx.Err() == nil && failures < 5; {
		n, err := d.admin.connections(ctx)
		switch {
		case err != nil:
			failures++
			d.log.Warn("connections are not known", zap.Error(err))
		case n == 0:
			return
		default:
			failures = 0
			d.log.Info("waiting for connections to close", zap.Uint64("open", n))
		}
		retry.Wait(ctx, lookEvery)
	}
}
