package retry_test

import (
	"context"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

func TestPauses(t *testing.T) {
	p := retry.Pauses{First: time.Second, Last: 3 * time.Second}
	for range 2 {
		for i, most := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			if got := p.Next(); got > most || got <= most/2 {
				t.Errorf("pause %d is %v, want at most %v and more than half of it", i, got, most)
			}
		}
		p.Reset()
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	retry.Wait(ctx, time.Hour) // returns
}
