package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// crds follows CustomResourceDefinitions and tells each kind that is read how
// the API server offers it. Only the reflector's goroutine calls its methods.
type crds struct {
	source *Source
	kinds  map[schema.GroupKind]*istioKind
}

var _ cache.ReflectorStore = (*crds)(nil)

func newCRDs(s *Source) *crds {
	c := &crds{source: s, kinds: map[schema.GroupKind]*istioKind{}}
	for _, k := range customKinds() {
		c.kinds[schema.GroupKind{Group: k.Group, Kind: k.Kind}] = newIstioKind(k, s)
	}
	return c
}

// gates are closed when the objects of all kinds that are served at the start
// are pending.
func (c *crds) gates() []<-chan struct{} {
	var out []<-chan struct{}
	for _, k := range c.kinds {
		out = append(out, k.synced)
	}
	return out
}

// run follows CRDs and, in goroutines of running, the kinds, until ctx ends.
func (c *crds) run(ctx context.Context, running *sync.WaitGroup) {
	for _, k := range c.kinds {
		running.Go(func() { k.run(ctx) })
	}
	reflect(ctx, c.source.clients.custom(crdVersion, "customresourcedefinitions"), c, c.source.health)
}

// Add implements cache.ReflectorStore.
func (c *crds) Add(o any) error { return c.Update(o) }

// Update implements cache.ReflectorStore.
func (c *crds) Update(o any) error {
	d, ok := o.(*crd)
	if !ok {
		return fmt.Errorf("a watch of CRDs brought a %T", o)
	}
	if k := c.kinds[d.groupKind()]; k != nil {
		k.set(c.offer(d, k))
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (c *crds) Delete(o any) error {
	d, ok := o.(*crd)
	if !ok {
		return fmt.Errorf("a watch of CRDs brought a %T", o)
	}
	if k := c.kinds[d.groupKind()]; k != nil {
		k.set(served{})
	}
	return nil
}

// Replace implements cache.ReflectorStore: a complete list.
func (c *crds) Replace(list []any, _ string) error {
	offers := map[*istioKind]served{}
	for _, o := range list {
		d, ok := o.(*crd)
		if !ok {
			return fmt.Errorf("a list of CRDs brought a %T", o)
		}
		if k := c.kinds[d.groupKind()]; k != nil {
			offers[k] = c.offer(d, k)
		}
	}
	for _, k := range c.kinds {
		k.set(offers[k])
	}
	return nil
}

// Resync implements cache.ReflectorStore; nothing here asks for it.
func (c *crds) Resync() error { return nil }

// offer is the first of the kind's versions that a CRD serves.
func (c *crds) offer(d *crd, k *istioKind) served {
	if !d.established() {
		return served{}
	}
	for _, v := range k.Versions {
		if d.serves(v) {
			return served{version: v, plural: d.Spec.Names.Plural}
		}
	}
	c.source.options.Log.Error("CRD serves no version that can be read: its objects have no effect",
		zap.String("crd", d.Name), zap.Strings("readable", k.Versions))
	return served{}
}

func (o *crd) groupKind() schema.GroupKind {
	return schema.GroupKind{Group: o.Spec.Group, Kind: o.Spec.Names.Kind}
}

func (o *crd) established() bool {
	return slices.ContainsFunc(o.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == "Established" && c.Status == metav1.ConditionTrue
	})
}

func (o *crd) serves(version string) bool {
	for _, v := range o.Spec.Versions {
		if v.Name == version && v.Served {
			return true
		}
	}
	return false
}
