package inputs

import (
	"context"
	"fmt"

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
	store  *discovery.Store // nil before it is read
	above  []discovery.Change
}

// NewCluster is the cluster of an API server. Nothing is read yet.
func NewCluster(c *rest.Config) *Cluster { return &Cluster{config: c} }

// with is the cluster with what files say on top.
func (c *Cluster) with(ctx context.Context, validate discovery.Validator, changes []discovery.Change, problems []config.Problem) (*config.Mesh, error) {
	if c.store == nil {
		store := discovery.NewStore(validate, file.Name, kube.Name)
		store.Synced(file.Name)
		if err := readCluster(ctx, c.config, store); err != nil {
			return nil, err
		}
		c.store = store
	}
	for i := range c.above { // in a step of its own: nothing of the state before is a last good version
		c.above[i].Deleted = true
	}
	c.store.Apply(file.Name, c.above)
	c.above = changes
	c.store.Replace(file.Name, changes, problems)
	return c.store.Mesh(), nil
}

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
