package inputs

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
)

// Cluster is a live cluster as it is when it is read first: several states of
// files over it differ in the files alone. It is for one goroutine.
type Cluster struct {
	config *rest.Config
	files  *layer // nil before it is read
}

// NewCluster is the cluster of an API server. Nothing is read yet.
func NewCluster(c *rest.Config) *Cluster { return &Cluster{config: c} }

// layer is the cluster with nothing above.
func (c *Cluster) layer(ctx context.Context, validate discovery.Validator) (*layer, error) {
	if c.files != nil {
		c.files.clear()
		return c.files, nil
	}
	store := discovery.NewStore(validate, file.Name, kube.Name)
	store.Synced(file.Name)
	if err := readCluster(ctx, c.config, store); err != nil {
		return nil, err
	}
	c.files = &layer{store: store, live: runningIn(store)}
	return c.files, nil
}

// layer is what files say in a store, on top of what else is in it.
type layer struct {
	store *discovery.Store
	live  running // below the files
	held  []discovery.Change
	// templated are pods as the cluster has them that now are as a template of
	// the files has them.
	templated []discovery.Change
}

// hold puts changes in the place of those before.
func (l *layer) hold(changes []discovery.Change, problems []config.Problem) *config.Mesh {
	changes, pods, had := l.live.under(changes)
	if pods = append(l.templated, pods...); len(pods) > 0 {
		l.store.Apply(kube.Name, pods)
	}
	l.templated = had
	now := make(map[config.Key]bool, len(changes))
	for i := range changes {
		now[changes[i].Object.Meta.Key] = true
	}
	step := slices.Clip(changes)
	for i := range l.held {
		if key := l.held[i].Object.Meta.Key; !now[key] {
			step = append(step, discovery.Change{Deleted: true, Object: discovery.Object{Meta: config.Meta{Key: key}}})
		}
	}
	l.held = changes
	l.store.Replace(file.Name, step, problems)
	return l.store.Mesh()
}

// clear takes all away, so that nothing of it is a last good version.
func (l *layer) clear() { l.hold(nil, nil) }

// readCluster reads a live cluster until its first complete view.
func readCluster(ctx context.Context, c *rest.Config, store *discovery.Store) error {
	source, err := kube.New(c, kube.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, store) }()
	select {
	case <-store.Changed():
		cancel()
		return <-ended // it was told to end
	case err := <-ended:
		if err == nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("reading the cluster: %w", err)
	}
}
