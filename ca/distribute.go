package ca

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// BundleConfigMap is the ConfigMap of every namespace that holds the trust
// bundle under the key root-cert.pem, as pods mount it.
const BundleConfigMap = "istio-ca-root-cert"

// RevokedConfigMap is that of the revocation lists, under the key ca-crl.pem. It
// is only where the plugged-in authority has any.
const RevokedConfigMap = "istio-ca-crl"

// withoutProxies are the namespaces that no proxy runs in, as Istio has them.
var withoutProxies = map[string]bool{
	metav1.NamespaceSystem: true, metav1.NamespacePublic: true, corev1.NamespaceNodeLease: true, "local-path-storage": true,
}

// Distributor is the leader's work of keeping the trust bundle in every
// namespace right: it writes where it is missing or different, and nowhere else.
type Distributor struct {
	Client    kubernetes.Interface
	Authority *Authority
	Log       *zap.Logger
	// Failed, unless nil, counts the writes that the API server refused. Each is
	// tried again.
	Failed prometheus.Counter
}

// NewDistributor returns a Distributor whose failures are counted for r.
func NewDistributor(client kubernetes.Interface, a *Authority, log *zap.Logger, r prometheus.Registerer) *Distributor {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pilotfish_trust_bundle_write_failures_total", Help: "Attempts to write a namespace's trust bundle or revocation lists that failed.",
	})
	r.MustRegister(c)
	return &Distributor{Client: client, Authority: a, Log: log, Failed: c}
}

// distribution is one run of a Distributor.
type distribution struct {
	*Distributor
	queue      workqueue.TypedRateLimitingInterface[string] // namespaces to look at
	namespaces cache.Store
	have       map[string]cache.Store // the ConfigMaps, by their name
}

// Run writes until ctx ends.
func (d *Distributor) Run(ctx context.Context) error {
	run := &distribution{Distributor: d, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, time.Minute))}
	client := d.Client.CoreV1().RESTClient()
	var namespaces cache.Controller
	run.have = map[string]cache.Store{}
	run.namespaces, namespaces = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client, "namespaces", "", fields.Everything()),
		ObjectType:    &corev1.Namespace{}, Handler: run.onEvent(metav1.Object.GetName), Transform: namesOnly,
	})
	synced := []cache.InformerSynced{namespaces.HasSynced}
	controllers := []cache.Controller{namespaces}
	for _, name := range []string{BundleConfigMap, RevokedConfigMap} {
		var configMaps cache.Controller
		run.have[name], configMaps = cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: cache.NewListWatchFromClient(client, "configmaps", "", fields.OneTermEqualSelector("metadata.name", name)),
			ObjectType:    &corev1.ConfigMap{}, Handler: run.onEvent(metav1.Object.GetNamespace),
		})
		controllers, synced = append(controllers, configMaps), append(synced, configMaps.HasSynced)
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer run.queue.ShutDown()
	for _, c := range controllers {
		running.Go(func() { c.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	const workers = 4
	for range workers {
		running.Go(func() {
			for run.one(ctx) {
			}
		})
	}
	for {
		_, changed := d.Authority.TrustBundle()
		for _, ns := range run.namespaces.ListKeys() {
			run.queue.Add(ns)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// namesOnly keeps of a namespace what is read of it.
func namesOnly(o any) (any, error) {
	if ns, ok := o.(*corev1.Namespace); ok {
		return &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: ns.Name, ResourceVersion: ns.ResourceVersion}, Status: ns.Status,
		}, nil
	}
	return o, nil
}

// onEvent queues the namespace that an object is about.
func (d *distribution) onEvent(namespace func(metav1.Object) string) cache.ResourceEventHandler {
	queue := func(o any) {
		if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		if m, ok := o.(metav1.Object); ok {
			d.queue.Add(namespace(m))
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: queue, UpdateFunc: func(_, o any) { queue(o) }, DeleteFunc: queue}
}

// one looks at one namespace; false when the queue has ended.
func (d *distribution) one(ctx context.Context) bool {
	ns, end := d.queue.Get()
	if end {
		return false
	}
	defer d.queue.Done(ns)
	err := d.settle(ctx, ns)
	if err == nil || ctx.Err() != nil {
		d.queue.Forget(ns)
		return true
	}
	if d.Failed != nil {
		d.Failed.Inc()
	}
	d.Log.Warn("trust bundle: cannot be written; trying again", zap.String("namespace", ns), zap.Error(err))
	d.queue.AddRateLimited(ns)
	return true
}

// settle makes a namespace's ConfigMaps hold the trust bundle and the revocation
// lists.
func (d *distribution) settle(ctx context.Context, ns string) error {
	bundle, _ := d.Authority.TrustBundle()
	o, exists, _ := d.namespaces.GetByKey(ns) // a Store's keys never fail
	if !exists || withoutProxies[ns] || len(bundle) == 0 || o.(*corev1.Namespace).Status.Phase == corev1.NamespaceTerminating {
		return nil
	}
	lists := map[string]string{}
	if text := d.Authority.RevocationLists(); len(text) > 0 {
		lists[crlKey] = string(text)
	}
	return errors.Join(d.write(ctx, ns, BundleConfigMap, map[string]string{rootKey: string(bundle)}), d.write(ctx, ns, RevokedConfigMap, lists))
}

// write makes a ConfigMap hold exactly some data. None is not made for nothing.
func (d *distribution) write(ctx context.Context, ns, name string, want map[string]string) error {
	api := d.Client.CoreV1().ConfigMaps(ns)
	o, exists, _ := d.have[name].GetByKey(ns + "/" + name)
	if !exists && len(want) == 0 {
		return nil
	}
	if !exists {
		_, err := api.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, Labels: map[string]string{"istio.io/config": "true"}},
			Data:       want,
		}, metav1.CreateOptions{})
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err):
			return nil // it is on its way out, and takes everything with it
		case apierrors.IsAlreadyExists(err):
			return nil // seen soon
		}
		return err
	}
	have := o.(*corev1.ConfigMap)
	if maps.Equal(have.Data, want) && len(have.BinaryData) == 0 {
		return nil
	}
	to := have.DeepCopy()
	to.Data, to.BinaryData = want, nil
	_, err := api.Update(ctx, to, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // what has changed is seen soon
	}
	return err
}
