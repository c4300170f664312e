package serve

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Writer is work on the API server that one replica does at a time.
type Writer struct {
	Name string
	// Run writes until ctx ends, which it does when this replica no longer
	// leads, and then returns soon. When it returns before, with an error or
	// without, it is run again after a pause.
	Run func(ctx context.Context) error
}

// leaseName is that of the Lease of what all revisions of the control plane
// write together, in its namespace. What a revision writes of its own has a
// Lease whose name ends in the revision's.
const leaseName = "pilotfish-leader"

func leaseOf(revision string) string { return leaseName + "-" + revision }

// Times of the election: a crashed leader is replaced after leaseDuration, and
// one that cannot reach the API server stops writing after renewDeadline.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Leader runs Writers while this replica holds the Lease.
type Leader struct {
	Client    kubernetes.Interface
	Namespace string
	Lease     string // its name
	// Identity is this replica's name in the Lease; no other has it.
	Identity string
	// Yields reports whether others should lead in place of this replica: it then
	// does not stand, and steps down. Nil for never.
	Yields  func(context.Context) bool
	Writers []Writer
	Log     *zap.Logger

	mu      sync.Mutex
	leading bool
}

// Leading reports whether this replica holds the Lease, as far as it knows.
func (l *Leader) Leading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leading
}

// Run stands for election again and again until ctx ends. It gives the Lease
// back once its Writers have ended, so that another replica goes on at once.
func (l *Leader) Run(ctx context.Context) error {
	for l.mayStand(ctx) {
		if err := l.term(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mayStand waits until no other should lead; false when ctx ends.
func (l *Leader) mayStand(ctx context.Context) bool {
	if l.Yields != nil {
		l.whileYielding(ctx, true)
	}
	return ctx.Err() == nil
}

// whileYielding returns when Yields no longer says so, or ctx ends.
func (l *Leader) whileYielding(ctx context.Context, so bool) {
	tick := time.NewTicker(retryPeriod)
	defer tick.Stop()
	for ctx.Err() == nil && l.Yields(ctx) == so {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// term is one candidacy, from waiting for the Lease to its loss, ctx's end, or
// the moment when others should lead.
func (l *Leader) term(ctx context.Context) error {
	ctx, stepDown := context.WithCancel(ctx)
	defer stepDown()
	if l.Yields != nil {
		watching := make(chan struct{})
		defer func() { <-watching }()
		defer stepDown() // before waiting
		go func() {
			defer close(watching)
			l.whileYielding(ctx, false)
			stepDown()
		}()
	}
	// The election outlives ctx until the Writers have ended.
	election, giveBack := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), logr.Discard()))
	defer giveBack()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{}) // the Writers' end
	var once sync.Once
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: l.Lease, Namespace: l.Namespace},
			Client:     l.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
		},
		Name: l.Lease, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				once.Do(func() {
					defer close(ended)
					l.lead(writing)
				})
			},
			OnStoppedLeading: stop,
		},
	})
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		elector.Run(election)
	}()
	select {
	case <-over: // the Lease is lost
	case <-ctx.Done():
		once.Do(func() { close(ended) }) // unless they run
		<-ended
		giveBack()
		<-over
	}
	stop()
	once.Do(func() { close(ended) })
	<-ended
	return nil
}

// lead runs every Writer until ctx ends and all have returned.
func (l *Leader) lead(ctx context.Context) {
	l.note(true)
	defer l.note(false)
	l.Log.Info("leading: this replica writes to the API server", zap.String("lease", l.Lease), zap.String("identity", l.Identity))
	var running sync.WaitGroup
	for _, w := range l.Writers {
		running.Go(func() { l.keepRunning(ctx, w) })
	}
	running.Wait()
	l.Log.Info("no longer leading", zap.String("lease", l.Lease), zap.String("identity", l.Identity))
}

func (l *Leader) note(leading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading = leading
}

// Pauses before a Writer that has ended is run again.
const (
	firstPause = time.Second
	mostPause  = time.Minute
)

func (l *Leader) keepRunning(ctx context.Context, w Writer) {
	pause := firstPause
	for {
		began := time.Now()
		err := w.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		l.Log.Error("writer ended; it is run again", zap.String("writer", w.Name), zap.Error(err), zap.Duration("after", pause))
		if time.Since(began) > mostPause {
			pause = firstPause
		}
		again := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
		pause = min(2*pause, mostPause)
	}
}
