package discovery

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// name names a namespaced object of a kind known from the context.
type name struct{ ns, name string }

func nameOf(k config.Key) name { return name{k.Namespace, k.Name} }

// set is a set of comparable things.
type set[T comparable] map[T]struct{}

func (s set[T]) add(v T) { s[v] = struct{}{} }

// multimap indexes things by a key; empty entries go away.
type multimap[K, V comparable] map[K]set[V]

func (m multimap[K, V]) add(k K, v V) {
	s := m[k]
	if s == nil {
		s = set[V]{}
		m[k] = s
	}
	s.add(v)
}

func (m multimap[K, V]) remove(k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// derivation holds the objects in effect, arranged so that a change finds
// what depends on it, and what was derived from them. It works in two steps:
// change records an object and marks what depends on it as stale; derive
// makes the stale things anew and puts those that came out different into the
// next Mesh. So a step costs what it touches.
type derivation struct {
	settings   *config.Settings
	lookup     config.Lookup // of variables that the settings name; nil: not read
	revision   revision
	namespaces namespaces
	objects    map[string]map[config.Key]*Object // all, by namespace

	services map[name]*Object // Kubernetes Services
	slices   slicesIndex
	pods     podsIndex
	nodes    map[string]config.Locality
	kubelets kubelets
	entries  entriesIndex
	workload map[name]*Object // WorkloadEntries
	// selectors are the Kubernetes Services with a selector, by namespace.
	selectors multimap[string, name]
	claims    map[config.ServiceID]*claim
	auto      autoAddresses
	ingresses ingresses

	stale struct {
		pods, workloadEntries set[name]
		services, endpoints   set[config.ServiceID]
		ingresses             set[name]
		everything            bool
	}
	// plain are the changes of kinds that go into the Mesh as they are.
	plain []plainChange
	// problems by the object that they are about; touched says that they
	// changed.
	problems map[config.Key][]config.Problem
	touched  bool
}

func newDerivation() derivation {
	d := derivation{
		settings:   config.DefaultSettings(),
		namespaces: newNamespaces(),
		objects:    map[string]map[config.Key]*Object{},
		services:   map[name]*Object{},
		slices:     newSlicesIndex(),
		pods:       newPodsIndex(),
		nodes:      map[string]config.Locality{},
		kubelets:   kubelets{of: map[string]int{}},
		entries:    newEntriesIndex(),
		workload:   map[name]*Object{},
		selectors:  multimap[string, name]{},
		claims:     map[config.ServiceID]*claim{},
		auto:       newAutoAddresses(),
		ingresses:  newIngresses(),
		problems:   map[config.Key][]config.Problem{},
	}
	d.clean()
	return d
}

func (d *derivation) clean() {
	d.stale.pods, d.stale.workloadEntries = set[name]{}, set[name]{}
	d.stale.services, d.stale.endpoints = set[config.ServiceID]{}, set[config.ServiceID]{}
	d.stale.ingresses = set[name]{}
	d.stale.everything = false
	d.plain = nil
}

// change takes the step of one object from before to after, either of which
// may be nil.
func (d *derivation) change(key config.Key, before, after *Object) {
	in := d.objects[key.Namespace]
	if in == nil {
		in = map[config.Key]*Object{}
		d.objects[key.Namespace] = in
	}
	if after == nil {
		delete(in, key)
		if len(in) == 0 {
			delete(d.objects, key.Namespace)
		}
	} else {
		in[key] = after
	}
	if d.settingsChange(key, after) || d.tagChange(key) {
		return
	}
	if ns := namespaceOf(before, after); ns != "" {
		d.namespaceChange(ns, after)
		return
	}
	if !d.revision.takes(before) {
		before = nil
	}
	if !d.revision.takes(after) {
		after = nil
	}
	if d.namespaces.discovered(key.Namespace) && before != after {
		d.visibleChange(key, before, after)
	}
}

func namespaceOf(before, after *Object) string {
	for _, o := range []*Object{before, after} {
		if o != nil {
			if _, ok := o.Body.(*corev1.Namespace); ok {
				return o.Meta.Name
			}
		}
	}
	return ""
}

// visibleChange is change for objects in discovered namespaces that are for
// this control plane.
func (d *derivation) visibleChange(key config.Key, before, after *Object) {
	body := any(nil)
	if before != nil {
		body = before.Body
	} else if after != nil {
		body = after.Body
	}
	switch body.(type) {
	case *corev1.Service:
		d.serviceChange(nameOf(key), before, after)
		for n := range d.ingresses.using[nameOf(key)] {
			d.stale.ingresses.add(n)
		}
	case *networkingv1.Ingress:
		d.ingressChange(nameOf(key), before, after)
	case *networkingv1.IngressClass:
		d.ingressClassChange(key.Name, after)
	case *discoveryv1.EndpointSlice:
		d.sliceChange(nameOf(key), before, after)
	case *corev1.Pod:
		d.podChange(nameOf(key), before, after)
	case *corev1.Node:
		d.nodeChange(key.Name, after)
	case *networking.ServiceEntry:
		d.entryChange(nameOf(key), before, after)
		d.plain = append(d.plain, plainChange{key, after})
	case *networking.WorkloadEntry:
		d.workloadEntryChange(nameOf(key), before, after)
		d.plain = append(d.plain, plainChange{key, after})
	default:
		d.plain = append(d.plain, plainChange{key, after})
	}
}

// derive makes everything stale anew and puts what changed into b. It reports
// whether problems may have changed.
func (d *derivation) derive(b *config.Builder) (touched bool) {
	if b.Settings() != d.settings {
		b.SetSettings(d.settings)
	}
	b.SetOldestKubelet(d.kubelets.oldest())
	if d.stale.everything {
		d.markEverything()
	}
	for _, c := range d.plain {
		c.put(b)
	}
	d.deriveIngresses(b)
	d.derivePods(b)
	d.deriveWorkloadEntries(b)
	d.deriveServices(b)
	d.deriveEndpoints(b)
	d.clean()
	touched, d.touched = d.touched, false
	return touched
}

// setProblems replaces what is wrong with an object.
func (d *derivation) setProblems(key config.Key, list []config.Problem) {
	if slices.Equal(d.problems[key], list) {
		return
	}
	d.touched = true
	if len(list) == 0 {
		delete(d.problems, key)
	} else {
		d.problems[key] = list
	}
}

// setClaimProblems replaces what is wrong with a service's definitions.
func (d *derivation) setClaimProblems(c *claim, list []config.Problem) {
	d.touched = d.touched || !slices.Equal(c.problems, list)
	c.problems = list
}

// markEverything marks everything as stale, after a change of the settings.
func (d *derivation) markEverything() {
	d.markIngresses()
	for n := range d.pods.raw {
		d.stale.pods.add(n)
	}
	for n := range d.workload {
		d.stale.workloadEntries.add(n)
	}
	for id := range d.claims {
		d.stale.services.add(id)
		d.stale.endpoints.add(id)
	}
}

func (d *derivation) addProblems(out []config.Problem) []config.Problem {
	for _, p := range d.problems {
		out = append(out, p...)
	}
	for _, c := range d.claims {
		out = append(out, c.problems...)
	}
	return out
}
