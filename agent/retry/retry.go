// Package retry has what the agent's parts do between attempts to reach the
// control plane.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses are those between failed attempts: First, then twice as long each time
// and never over Last, each shortened by a random part, up to half of it, so that
// a fleet spreads.
type Pauses struct {
	First, Last time.Duration

	next time.Duration // 0 before the first
}

// Next is how long to wait now.
func (p *Pauses) Next() time.Duration {
	pause := max(p.next, p.First)
	p.next = min(2*pause, p.Last)
	return pause - rand.N(pause/2)
}

// Reset begins with First again.
func (p *Pauses) Reset() { p.next = 0 }

// Wait waits for a time, or less if ctx ends before.
func Wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
