package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
	"istio.io/api/label"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// Bounds of writing status: objects a second, and how long counts that say
// nothing new may be out of date.
const (
	statusesPerSecond = 20
	countsOutOfDate   = 5 * time.Minute
)

// standing is how an object fares: what its status is to say.
type standing struct {
	generation       int64 // in effect, 0 for none
	holders, proxies int
	problems         []config.Problem
}

// statusWriter writes how objects fare into their status.
type statusWriter struct {
	client  rest.Interface // any of the API server's
	plane   *Plane
	others  *reports
	seen    *seenStatuses
	log     *zap.Logger
	written *prometheus.CounterVec
	reads   prometheus.Counter
	// mine selects the objects that this writer is for by their label
	// istio.io/rev.
	mine func(revision string) bool
	// counts selects the replicas whose proxies are counted by their revision.
	counts func(revision string) bool
}

func newStatusReads(r prometheus.Registerer) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pilotfish_status_reads_total", Help: "Objects read to write their status, since what the watches brought says something else.",
	})
	r.MustRegister(c)
	return c
}

func newStatusWrites(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pilotfish_status_writes_total", Help: "Attempts to write the status of an object: written, conflict or failed.",
	}, []string{"result"})
	r.MustRegister(c)
	return c
}

// noted is what a writer knows that a status says.
type noted struct {
	text  string // without counts
	count string
	at    time.Time
}

// Run is that of a Writer.
func (w *statusWriter) Run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	known, limit := map[config.Key]noted{}, rate.NewLimiter(statusesPerSecond, statusesPerSecond)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			all, err := w.standings(ctx, now)
			if err != nil {
				w.log.Debug("status is not written", zap.Error(err))
				continue
			}
			for key := range known {
				if _, still := all[key]; !still {
					delete(known, key)
				}
			}
			w.write(ctx, all, known, limit, now)
		}
	}
}

// standings is how the objects fare that this writer is for.
func (w *statusWriter) standings(ctx context.Context, now time.Time) (map[config.Key]*standing, error) {
	if w.plane.Store.Mesh() == nil {
		return nil, nil
	}
	live, err := w.others.live(ctx, now)
	if err != nil {
		return nil, err
	}
	live = slices.DeleteFunc(live, func(r *report) bool { return !w.counts(r.Revision) })
	own, out := w.plane.Distribution(), map[config.Key]*standing{}
	skip := map[config.Key]bool{}
	own.lineage.newest(func(key config.Key, v objectVersion) {
		if v.meta.File != "" || !w.mine(v.meta.Labels[label.IoIstioRev.Name]) {
			skip[key] = true
			return
		}
		s := &standing{generation: v.meta.Generation}
		s.holders, s.proxies = total(own, live, key, v, now)
		out[key] = s
	})
	for _, p := range w.plane.Problems() {
		if !isIstio(p.Object.Group) || p.File != "" || p.Severity == config.Info || skip[p.Object] {
			continue
		}
		s := out[p.Object]
		if s == nil { // nothing of it is in effect; whose it is will be seen
			s = &standing{}
			out[p.Object] = s
		}
		s.problems = append(s.problems, p)
	}
	return out, nil
}

// write brings what differs up to date, first what says something new, as far
// as the rate allows: the rest waits for its next turn.
func (w *statusWriter) write(ctx context.Context, all map[config.Key]*standing, known map[config.Key]noted, limit *rate.Limiter, now time.Time) {
	var urgent, later []config.Key
	for key, s := range all {
		was, ok := known[key]
		switch text, count := s.text(); {
		case !ok || was.text != text || was.count != count && s.holders < s.proxies:
			urgent = append(urgent, key)
		case (was.count != count || len(s.problems) > 0) && now.Sub(was.at) > countsOutOfDate:
			later = append(later, key)
		}
	}
	for _, key := range append(urgent, later...) {
		if ctx.Err() != nil {
			return
		}
		if next, ok := all[key].status(all[key].generation); ok && w.seen.says(key, &next) {
			text, count := all[key].text()
			known[key] = noted{text, count, now}
			continue // the watch has brought just that: nothing to read or write
		}
		if !limit.Allow() {
			return
		}
		w.reads.Inc()
		err := w.writeOne(ctx, key, all[key], now)
		text, count := all[key].text()
		switch {
		case err == nil, apierrors.IsNotFound(err): // it, or its kind's status, may not be there
			known[key] = noted{text, count, now}
		case errors.Is(err, errNotYet):
		case apierrors.IsConflict(err):
			w.written.WithLabelValues("conflict").Inc()
		default:
			w.written.WithLabelValues("failed").Inc()
			w.log.Warn("the status of an object is not written", zap.Stringer("object", key), zap.Error(err))
		}
	}
}

// errNotYet says that the API server has a version that the mesh has not.
var errNotYet = errors.New("the newest version has not been read yet")

// writeOne writes an object's status, unless it says the same already.
func (w *statusWriter) writeOne(ctx context.Context, key config.Key, s *standing, now time.Time) error {
	path, err := statusPath(key)
	if err != nil {
		return err
	}
	b, err := w.client.Get().AbsPath(strings.TrimSuffix(path, "/status")).DoRaw(ctx)
	if err != nil {
		return err
	}
	var has struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Status   struct {
			objectStatus
			Conditions []json.RawMessage `json:"conditions"`
		} `json:"status"`
	}
	if err := json.Unmarshal(b, &has); err != nil {
		return err
	}
	if !w.mine(has.Metadata.Labels[label.IoIstioRev.Name]) {
		return nil
	}
	next, ok := s.status(has.Metadata.Generation)
	if !ok {
		return errNotYet
	}
	conditions, same := merged(has.Status.Conditions, next.Conditions, now)
	if same && has.Status.ObservedGeneration == next.ObservedGeneration &&
		slices.Equal(has.Status.ValidationMessages, next.ValidationMessages) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": has.Metadata.ResourceVersion}, // a conflict is tried again
		"status": map[string]any{
			"conditions": conditions, "validationMessages": next.ValidationMessages, "observedGeneration": next.ObservedGeneration,
		},
	})
	if err != nil {
		return err
	}
	if err := w.client.Patch(types.MergePatchType).AbsPath(path).Body(patch).Do(ctx).Error(); err != nil {
		return err
	}
	w.written.WithLabelValues("written").Inc()
	return nil
}

// statusPath is where an object's status is, at any version that is served.
func statusPath(key config.Key) (string, error) {
	for _, k := range discovery.Kinds() {
		if k.Group == key.Group && k.Kind == key.Kind {
			return fmt.Sprintf("/apis/%s/%s/namespaces/%s/%s/%s/status", k.Group, k.Versions[0], key.Namespace, plural(k.Kind), key.Name), nil
		}
	}
	return "", fmt.Errorf("%s is of no kind that is served", key)
}

func plural(kind string) string {
	name := strings.ToLower(kind)
	if stem, ok := strings.CutSuffix(name, "y"); ok && !strings.HasSuffix(stem, "a") {
		return stem + "ies"
	}
	return name + "s"
}

func isIstio(group string) bool {
	return slices.ContainsFunc(discovery.Kinds(), func(k discovery.Kind) bool { return k.Group == group })
}

// istioGroup is the API group of one of Istio's kinds.
func istioGroup(kind string) (group string, ok bool) {
	for _, k := range discovery.Kinds() {
		if k.Kind == kind {
			return k.Group, true
		}
	}
	return "", false
}
