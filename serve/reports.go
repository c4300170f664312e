package serve

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// reportsName is that of the ConfigMap in which replicas tell the leader how far
// their proxies are, one key a replica. See docs/design/0017-status.md.
const reportsName = "pilotfish-distribution"

// Times of reports: one is written at most each reportEvery, and at least each
// reportRenewal; one that stays the same for reportLife is of a replica that is
// gone. Objects are listed for as long as their change is recent.
const (
	reportEvery   = 2 * time.Second
	reportRenewal = 10 * time.Second
	reportLife    = 30 * time.Second
	recent        = 5 * time.Minute
	young         = time.Minute
)

// mostReported bounds the objects that one report lists.
const mostReported = 1000

// report is what one replica says. Every object that changed recently is
// listed, and every one that some of its proxies lack; any other all of them
// have, unless there are More than fit.
type report struct {
	Revision string                   `json:"revision"`
	Written  time.Time                `json:"written"`
	Proxies  int                      `json:"proxies"`
	More     bool                     `json:"more,omitempty"`
	Objects  map[string]reportedCount `json:"objects,omitempty"` // by config.Key.String
}

type reportedCount struct {
	Generation int64 `json:"generation"`
	Holders    int   `json:"holders"`
}

func (r *report) same(o *report) bool {
	return r.Revision == o.Revision && r.Proxies == o.Proxies && r.More == o.More && maps.Equal(r.Objects, o.Objects)
}

// report is what this replica says now.
func (d *Distribution) report(revision string, now time.Time) *report {
	r := &report{Revision: revision, Written: now.UTC(), Proxies: d.Proxies(), Objects: map[string]reportedCount{}}
	if r.Proxies == 0 {
		return r
	}
	var settled []string
	d.lineage.newest(func(key config.Key, v objectVersion) {
		n := d.holders(key, v)
		if n == r.Proxies && now.Sub(v.since) > recent {
			return
		}
		if n == r.Proxies {
			settled = append(settled, key.String())
		}
		r.Objects[key.String()] = reportedCount{v.meta.Generation, n}
	})
	slices.Sort(settled)
	for _, name := range settled { // the least telling go first
		if len(r.Objects) <= mostReported {
			break
		}
		delete(r.Objects, name)
		r.More = true
	}
	for _, name := range slices.Sorted(maps.Keys(r.Objects)) {
		if len(r.Objects) <= mostReported {
			break
		}
		delete(r.Objects, name)
		r.More = true
	}
	return r
}

// reporter writes a replica's report.
type reporter struct {
	client    kubernetes.Interface
	namespace string
	identity  string
	revision  string
	plane     *Plane
	log       *zap.Logger
}

// reportKey is a replica's key in the ConfigMap.
func reportKey(identity string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, identity)
}

// run reports until ctx ends, and then takes the report back.
func (r *reporter) run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var last *report
	for {
		select {
		case <-ctx.Done():
			if last != nil {
				end, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportEvery)
				defer cancel()
				_ = r.write(end, nil) // it is taken for gone soon
			}
			return nil
		case now := <-tick.C:
			next := r.plane.Distribution().report(r.revision, now)
			if last != nil && next.same(last) && now.Sub(last.Written) < reportRenewal {
				continue
			}
			if err := r.write(ctx, next); err != nil {
				r.log.Debug("how far the proxies are was not reported", zap.Error(err))
				continue
			}
			last = next
		}
	}
}

// write replaces this replica's report, and touches no other; nil takes it back.
func (r *reporter) write(ctx context.Context, next *report) error {
	var value any
	if next != nil {
		text, err := json.Marshal(next)
		if err != nil {
			return err
		}
		value = string(text)
	}
	return r.patch(ctx, map[string]any{reportKey(r.identity): value})
}

func (r *reporter) patch(ctx context.Context, data map[string]any) error {
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return err
	}
	maps := r.client.CoreV1().ConfigMaps(r.namespace)
	_, err = maps.Patch(ctx, reportsName, types.MergePatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: reportsName, Namespace: r.namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = maps.Patch(ctx, reportsName, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// reports are the others', as the leader follows them.
type reports struct {
	reporter
	seen map[string]sighting
}

// sighting is when a report was first seen as it is.
type sighting struct {
	text string
	at   time.Time
}

// live returns the reports of the replicas that are there, but for this one's,
// and removes those of replicas that are gone.
func (r *reports) live(ctx context.Context, now time.Time) ([]*report, error) {
	m, err := r.client.CoreV1().ConfigMaps(r.namespace).Get(ctx, reportsName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*report
	gone := map[string]any{}
	for key, text := range m.Data {
		if r.seen[key].text != text {
			r.seen[key] = sighting{text, now}
		}
		switch one := new(report); {
		case key == reportKey(r.identity):
		case now.Sub(r.seen[key].at) > reportLife || json.Unmarshal([]byte(text), one) != nil:
			gone[key] = nil
		default:
			out = append(out, one)
		}
	}
	maps.DeleteFunc(r.seen, func(key string, _ sighting) bool { _, still := m.Data[key]; return !still })
	if len(gone) > 0 {
		return out, r.patch(ctx, gone)
	}
	return out, nil
}

// total is how many of all proxies have a version of an object: own counts this
// replica's.
func total(own *Distribution, others []*report, key config.Key, v objectVersion, now time.Time) (holders, proxies int) {
	holders, proxies = own.holders(key, v), own.Proxies()
	for _, r := range others {
		proxies += r.Proxies
		switch count, listed := r.Objects[key.String()]; {
		case listed && count.Generation == v.meta.Generation:
			holders += count.Holders
		case !listed && !r.More && now.Sub(v.since) > young:
			holders += r.Proxies
		}
	}
	return holders, proxies
}
