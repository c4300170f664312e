package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// health logs what the API server's answers say about it, once per change.
type health struct {
	log *zap.Logger

	mu      sync.Mutex
	lost    map[string]bool // resources whose last request got no answer
	since   time.Time       // when the first of lost was lost
	refused map[string]bool // resources that the server refuses to show
}

func newHealth(log *zap.Logger) *health {
	return &health{log: log, lost: map[string]bool{}, refused: map[string]bool{}}
}

// answer takes note of the outcome of a request for a resource.
func (h *health) answer(resource string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	refused := err != nil && isRefusal(err)
	if err != nil && !refused {
		if h.since.IsZero() {
			h.since = time.Now()
			h.log.Warn("API server is away: the last state stays in effect", zap.Error(err))
		}
		h.lost[resource] = true
		return
	}
	h.found(resource)
	switch {
	case refused && !h.refused[resource]:
		h.log.Error("API server refuses to show "+resource, zap.Error(err))
		h.refused[resource] = true
	case !refused && h.refused[resource]:
		h.log.Info("API server shows " + resource + " again")
		delete(h.refused, resource)
	}
}

// found says that a resource is not lost. The server is back when none is.
func (h *health) found(resource string) {
	delete(h.lost, resource)
	if len(h.lost) == 0 && !h.since.IsZero() {
		h.log.Info("API server is back", zap.Duration("after", time.Since(h.since)))
		h.since = time.Time{}
	}
}

// forget is for a resource that nobody asks for any more.
func (h *health) forget(resource string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.refused, resource)
	h.found(resource)
}

// awayFor is for how long the server has been away; zero if it is not.
func (h *health) awayFor(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return 0
	}
	return now.Sub(h.since)
}

// isRefusal reports whether the server understood a request and denies it,
// which it will go on to do until somebody changes something.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 && !apierrors.IsTooManyRequests(err)
}

// isExpected reports answers that are part of the watch protocol: a version
// that is too old or too new is asked for anew, a CRD that goes away takes its
// resource with it, and servers without watch-list are asked for a list.
func isExpected(err error, o metav1.ListOptions) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) ||
		apierrors.IsNotFound(err) || (o.SendInitialEvents != nil && apierrors.IsInvalid(err))
}

// watched is a list and watch of one resource whose outcomes health learns.
type watched struct {
	*cache.ListWatch
	resource string
	health   *health
}

var _ cache.ListerWatcherWithContext = watched{}

// ListWithContext implements cache.ListerWatcherWithContext.
func (w watched) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := w.ListWatch.ListWithContext(ctx, o)
	w.learn(ctx, o, err)
	return list, err
}

// WatchWithContext implements cache.ListerWatcherWithContext.
func (w watched) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	events, err := w.ListWatch.WatchWithContext(ctx, o)
	w.learn(ctx, o, err)
	return events, err
}

func (w watched) learn(ctx context.Context, o metav1.ListOptions, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil && isExpected(err, o) {
		err = nil
	}
	w.health.answer(w.resource, err)
}

// debugLogger passes client-go's messages on as debug ones: health says what
// matters of them.
func debugLogger(log *zap.Logger) logr.Logger {
	log = log.Named("client-go")
	return funcr.New(func(_, args string) { log.Debug(args) }, funcr.Options{})
}
