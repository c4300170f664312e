package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
)

// Keeper keeps an Authority's Root to what the Secrets say, and makes the
// self-signed root where there is none. A Secret that cannot be used changes
// nothing: the last good Root stays, and without one there is none.
type Keeper struct {
	client    kubernetes.Interface
	namespace string
	authority *Authority
	log       *zap.Logger
	refused   *prometheus.GaugeVec

	// Mounted are folders with what the Secrets hold, by their names, a file a
	// key. They are read while the API server is away at the start. Set before
	// Run.
	Mounted map[string]string

	looked chan struct{} // capacity 1: a Secret may have changed
	moved  chan struct{} // capacity 1: the same, for Rotate

	mu       sync.Mutex
	secrets  map[string]*corev1.Secret       // by name; as last seen
	self     *selfSigned                     // in use, unless the root is plugged in
	lists    map[string]*x509.RevocationList // that were made, by their root; only settle uses it
	problems map[string]error                // why a Secret is refused, by its name
}

// NewKeeper returns the Keeper of an Authority. The registerer may be nil.
func NewKeeper(client kubernetes.Interface, namespace string, a *Authority, log *zap.Logger, r prometheus.Registerer) *Keeper {
	k := &Keeper{
		client: client, namespace: namespace, authority: a, log: log,
		looked: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		secrets: map[string]*corev1.Secret{}, problems: map[string]error{}, lists: map[string]*x509.RevocationList{},
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilotfish_ca_secret_refused", Help: "1 while a Secret of the certificate authority cannot be used.",
		}, []string{"secret"}),
	}
	for _, name := range []string{PlugInSecret, SelfSignedSecret} {
		k.refused.WithLabelValues(name).Set(0)
	}
	if r != nil {
		r.MustRegister(k.refused)
	}
	return k
}

// Problem is why a Secret is refused; nil if none is.
func (k *Keeper) Problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []error
	for _, name := range []string{PlugInSecret, SelfSignedSecret} {
		all = append(all, k.problems[name])
	}
	return errors.Join(all...)
}

// Run follows the Secrets until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	var synced []cache.InformerSynced
	for _, name := range []string{PlugInSecret, SelfSignedSecret} {
		list := cache.NewListWatchFromClient(k.client.CoreV1().RESTClient(), "secrets", k.namespace, fields.OneTermEqualSelector("metadata.name", name))
		_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: list, ObjectType: &corev1.Secret{},
			Handler: cache.ResourceEventHandlerFuncs{
				AddFunc:    func(o any) { k.saw(name, o.(*corev1.Secret)) },
				UpdateFunc: func(_, o any) { k.saw(name, o.(*corev1.Secret)) },
				DeleteFunc: func(any) { k.saw(name, nil) },
			},
		})
		running.Go(func() { informer.RunWithContext(ctx) })
		synced = append(synced, informer.HasSynced)
	}
	for await := patience; !waitSynced(ctx, await, synced); {
		if ctx.Err() != nil {
			return nil
		}
		if !k.readMounted() {
			await = 0
		}
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.looked:
		case <-again.C:
		}
		if err := k.settle(ctx); err != nil && ctx.Err() == nil {
			k.log.Error("certificate authority: cannot make its root; trying again", zap.Error(err))
			again.Reset(5 * time.Second)
		}
	}
}

// patience is how long the API server may be away before mounted Secrets are
// used.
const patience = 3 * time.Second

// waitSynced waits for the first view of the API server, for a time unless it
// is 0.
func waitSynced(ctx context.Context, most time.Duration, synced []cache.InformerSynced) bool {
	if most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	return cache.WaitForCacheSync(ctx.Done(), synced...)
}

// readMounted uses the Secrets that are mounted; nothing is written. It
// reports whether there may be more to read later.
func (k *Keeper) readMounted() bool {
	if len(k.Mounted) == 0 || k.authority.Root() != nil {
		return false
	}
	now := k.authority.options.Now()
	for _, name := range []string{PlugInSecret, SelfSignedSecret} {
		s, err := mountedSecret(k.Mounted[name])
		if err != nil {
			k.log.Warn("certificate authority: a mounted Secret cannot be read", zap.String("secret", name), zap.Error(err))
		}
		if s == nil {
			continue
		}
		var root *Root
		if name == PlugInSecret {
			root, err = PlugIn(s.Data, now)
		} else {
			var self *selfSigned
			if self, err = readSelfSigned(s, now); err == nil {
				root = self.root()
			}
		}
		k.judge(name, err)
		if err == nil {
			k.use(root, nil, "from mounted Secret "+name+": the API server is away")
		}
		return err != nil // and nothing instead of one that is refused
	}
	return true
}

// mountedSecret reads a folder; nil if there is nothing in it.
func mountedSecret(dir string) (*corev1.Secret, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	s := &corev1.Secret{Data: map[string][]byte{}}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") || f.IsDir() {
			continue // how the kubelet replaces them at once
		}
		if s.Data[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	if len(s.Data) == 0 {
		return nil, nil
	}
	return s, nil
}

func (k *Keeper) saw(name string, s *corev1.Secret) {
	k.mu.Lock()
	k.secrets[name] = s
	k.mu.Unlock()
	for _, c := range []chan struct{}{k.looked, k.moved} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// settle makes the Authority use what the Secrets hold.
func (k *Keeper) settle(ctx context.Context) error {
	k.mu.Lock()
	plugged, kept, self := k.secrets[PlugInSecret], k.secrets[SelfSignedSecret], k.self
	k.mu.Unlock()
	now := k.authority.options.Now()
	var stored *selfSigned
	if kept != nil {
		var err error
		stored, err = readSelfSigned(kept, now)
		k.judge(SelfSignedSecret, err)
	} else {
		k.judge(SelfSignedSecret, nil)
	}
	switch {
	case plugged != nil:
		root, err := PlugIn(plugged.Data, now)
		k.judge(PlugInSecret, err)
		if err != nil {
			return nil // no falling back: the mesh would not trust another root
		}
		if stored != nil { // the way from a self-signed root to this one
			root.roots = unique(root.roots, stored.root().roots)
			k.listStored(root, stored)
		}
		k.use(root, nil, "plugged in by Secret "+PlugInSecret)
		return nil
	case stored != nil:
		k.judge(PlugInSecret, nil)
		k.use(stored.root(), stored, "self-signed, in Secret "+SelfSignedSecret)
		return nil
	case kept != nil:
		return nil // refused; never overwritten
	case k.authority.Root() != nil && self == nil:
		k.judge(PlugInSecret, errors.New("is gone; its key stays in use until this replica ends"))
		return nil
	}
	return k.create(ctx, self)
}

// listStored gives the self-signed roots that stay trusted beside a plugged-in
// one with revocation lists lists of their own.
func (k *Keeper) listStored(root *Root, stored *selfSigned) {
	if len(root.revoked.lists) == 0 {
		return
	}
	for _, r := range []*Root{stored.active, stored.next} {
		if r == nil || root.revoked.of(r.chain[0]) != nil {
			continue
		}
		id := string(r.chain[0].Raw)
		if k.lists[id] == nil {
			list, err := r.revokesNothing()
			if err != nil {
				k.log.Warn("certificate authority: a root that is trusted has no revocation list; proxies refuse its certificates", zap.Stringer("root", r), zap.Error(err))
				continue
			}
			k.lists[id] = list
		}
		root.revoked.lists = append(root.revoked.lists, k.lists[id])
		root.revoked.pem = append(root.revoked.pem, pem.EncodeToMemory(&pem.Block{Type: crlBlock, Bytes: k.lists[id].Raw})...)
	}
}

// create writes the self-signed root where there is none: of several replicas
// the first one wins. One that has been deleted is written again.
func (k *Keeper) create(ctx context.Context, self *selfSigned) error {
	lost := false // the root that namespaces trust
	if self == nil {
		r, err := SelfSigned("cluster.local")
		if err != nil {
			return err
		}
		self = &selfSigned{active: r, since: k.authority.options.Now()}
		_, err = k.client.CoreV1().ConfigMaps(k.namespace).Get(ctx, BundleConfigMap, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		lost = err == nil
	} else {
		k.log.Warn("certificate authority: its Secret was deleted; it is written again", zap.String("secret", SelfSignedSecret))
	}
	s, err := self.secret(k.namespace)
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Secrets(k.namespace).Create(ctx, s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // it comes by the watch, as one's own does
	}
	if err == nil && lost {
		k.log.Error("certificate authority: the root that the mesh trusts is lost, and another one was made: proxies refuse those with certificates of the other root until they have it",
			zap.String("secret", SelfSignedSecret), zap.String("trusted before, in ConfigMap", BundleConfigMap), zap.Stringer("root", self.active))
	}
	return err
}

// judge notes whether a Secret can be used.
func (k *Keeper) judge(name string, err error) {
	k.mu.Lock()
	was := k.problems[name]
	k.problems[name] = nil
	if err != nil {
		k.problems[name] = fmt.Errorf("the certificate authority's Secret %s/%s is refused: %w", k.namespace, name, err)
	}
	k.mu.Unlock()
	k.refused.WithLabelValues(name).Set(map[bool]float64{err != nil: 1}[true])
	if err != nil && (was == nil || !errors.Is(was, err)) {
		k.log.Error("certificate authority: a Secret is refused", zap.String("secret", k.namespace+"/"+name), zap.Error(err),
			zap.Bool("has a root", k.authority.Root() != nil))
	}
}

// use takes up a root unless it is in use.
func (k *Keeper) use(r *Root, self *selfSigned, how string) {
	k.mu.Lock()
	k.self = self
	k.mu.Unlock()
	last := k.authority.Root()
	if last != nil && last.same(r) {
		return
	}
	if last != nil && !last.Trusts(r) {
		k.log.Warn("certificate authority: signs with a root that proxies do not trust yet; they refuse each other until they have it",
			zap.Stringer("root", r), zap.Stringer("before", last))
	}
	k.log.Info("certificate authority: root in use", zap.String("how", how), zap.Stringer("root", r), zap.Int("trusted roots", len(r.roots)),
		zap.Int("revocation lists", len(r.revoked.lists)))
	k.authority.Use(r)
}

// same reports whether two Roots sign and trust alike.
func (r *Root) same(other *Root) bool {
	equal := func(a, b []*x509.Certificate) bool {
		return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
	}
	return equal(r.chain, other.chain) && equal(r.roots, other.roots) && bytes.Equal(r.revoked.pem, other.revoked.pem)
}

// Rotate is the leader's part: it moves the rotation of the self-signed root on
// when it is time, or when a person asks, until ctx ends.
func (k *Keeper) Rotate(ctx context.Context, distribute, retire time.Duration) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.moved:
		case <-again.C:
		}
		k.mu.Lock()
		kept, plugged := k.secrets[SelfSignedSecret], k.secrets[PlugInSecret]
		k.mu.Unlock()
		if kept == nil || plugged != nil { // who plugs a root in rotates it
			continue
		}
		due, err := k.step(ctx, kept, pace{distribute, retire})
		if err != nil {
			return err
		}
		again.Reset(min(max(due.Sub(k.authority.options.Now()), time.Second), time.Hour))
	}
}

// step does the next step of a rotation if it is time.
func (k *Keeper) step(ctx context.Context, kept *corev1.Secret, p pace) (due time.Time, err error) {
	now := k.authority.options.Now()
	self, err := readSelfSigned(kept, now)
	if err != nil {
		return now.Add(time.Hour), nil // refused, see settle
	}
	asked := Rotation(kept.Annotations[rotationNote])
	next, due, err := self.step(now, asked, p, func() (*Root, error) { return SelfSigned("cluster.local") })
	if err != nil {
		k.log.Error("certificate authority: rotation", zap.Error(err))
		next = self // which takes the request off
	}
	if next == nil {
		return due, nil
	}
	to := kept.DeepCopy()
	if err := next.write(to); err != nil {
		return due, err
	}
	// The resource version of what was read makes this one step, whoever else
	// writes.
	_, err = k.client.CoreV1().Secrets(k.namespace).Update(ctx, to, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return now.Add(time.Second), nil
	}
	if err == nil && next != self {
		k.log.Info("certificate authority: rotation", zap.String("phase", string(next.phase())), zap.Stringer("signs", next.active))
	}
	return due, err
}
