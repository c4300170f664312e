package serve_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// candidate is one replica that stands for election.
type candidate struct {
	leader  *serve.Leader
	leads   chan bool // true when its Writer begins, false when it ends
	cancel  context.CancelFunc
	ended   chan error
	failing atomic.Int32 // how often the second Writer still fails
	retried chan struct{}
}

// writers counts the Writers that run at this moment, of all replicas.
func newCandidate(t *testing.T, s *kubetest.Server, name string, writers *atomic.Int32) *candidate {
	t.Helper()
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &candidate{leads: make(chan bool, 16), cancel: cancel, ended: make(chan error, 1), retried: make(chan struct{})}
	c.failing.Store(1)
	c.leader = &serve.Leader{
		Client: client, Namespace: "istio-system", Lease: "pilotfish-leader", Identity: name, Log: zaptest.NewLogger(t),
		Writers: []serve.Writer{
			{Name: "first", Run: func(ctx context.Context) error {
				if n := writers.Add(1); n != 1 {
					t.Errorf("%d replicas write at once", n)
				}
				c.leads <- true
				<-ctx.Done()
				writers.Add(-1)
				c.leads <- false
				return nil
			}},
			{Name: "failing once", Run: func(ctx context.Context) error {
				if c.failing.Add(-1) >= 0 {
					return errors.New("as the test wants")
				}
				close(c.retried)
				<-ctx.Done()
				return nil
			}},
		},
	}
	go func() { c.ended <- c.leader.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err, ok := <-c.ended; ok && err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *candidate) wait(t *testing.T, leads bool) {
	t.Helper()
	select {
	case got := <-c.leads:
		if got != leads {
			t.Fatalf("%s leads: %t, want %t", c.leader.Identity, got, leads)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("%s does not change to leading: %t", c.leader.Identity, leads)
	}
}

// One replica writes at a time; the next goes on as soon as it ends.
func TestLeader(t *testing.T) {
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	var writers atomic.Int32
	a := newCandidate(t, s, "a", &writers)
	a.wait(t, true)
	<-a.retried
	if !a.leader.Leading() {
		t.Error("does not say that it leads")
	}
	b := newCandidate(t, s, "b", &writers)
	a.cancel()
	a.wait(t, false)
	if err := <-a.ended; err != nil {
		t.Error(err)
	}
	close(a.ended)
	b.wait(t, true)

	lease, err := b.leader.Client.CoordinationV1().Leases("istio-system").Get(t.Context(), "pilotfish-leader", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "b" {
		t.Errorf("the Lease names %v (%v), want b", lease.Spec.HolderIdentity, err)
	}
}

// A leader that cannot reach the API server stops writing, and stands for
// election again when it can.
func TestLeaderWithoutServer(t *testing.T) {
	s := kubetest.Start(t)
	s.Client(t).Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	var writers atomic.Int32
	a := newCandidate(t, s, "a", &writers)
	a.wait(t, true)
	<-a.retried
	a.failing.Store(1)
	a.retried = make(chan struct{})
	s.Stop(t)
	a.wait(t, false)
	s.Restart(t)
	a.wait(t, true)
}
