package discovery

import (
	"slices"

	"istio.io/api/label"
	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// defaultRevision is the name of the revision that has none.
const defaultRevision = "default"

// revision is which of several control planes of a cluster this one is. The
// objects of Istio's API that are labelled for another one (istio.io/rev) are
// not looked at; a tag stands for the revision that it leads to.
type revision struct {
	name string // empty: there is only one, and every object is its
	tags map[string]string
}

// owns reports whether an object labelled with a revision or a tag, or with
// neither, is for this control plane.
func (r *revision) owns(named string) bool {
	return r.name == "" || named == "" || named == r.name || r.tags[named] == r.name
}

// takes reports whether an object counts. Nil does not.
func (r *revision) takes(o *Object) bool {
	return o != nil && (!isIstio(o.Meta.Key) || r.owns(o.Meta.Labels[label.IoIstioRev.Name]))
}

// settings are the names of the ConfigMaps with the mesh's settings, the one
// that wins first.
func (r *revision) settings() []string {
	if r.name == "" || r.name == defaultRevision {
		return []string{meshConfigMap}
	}
	return []string{meshConfigMap + "-" + r.name, meshConfigMap}
}

func isIstio(k config.Key) bool {
	return slices.Contains([]string{NetworkingGroup, SecurityGroup, TelemetryGroup, ExtensionsGroup}, k.Group)
}

// tagChange takes a step of a MutatingWebhookConfiguration, the form in which
// the cluster holds tags; false for any other object.
func (d *derivation) tagChange(key config.Key) bool {
	if key.Group != admissionv1.GroupName {
		return false
	}
	was := d.revision
	d.revision.tags = map[string]string{}
	for _, o := range d.objects[""] {
		if tag := o.Meta.Labels[label.IoIstioTag.Name]; tag != "" && o.Meta.Key.Group == admissionv1.GroupName {
			d.revision.tags[tag] = o.Meta.Labels[label.IoIstioRev.Name]
		}
	}
	for ns, objects := range d.objects {
		if !d.namespaces.discovered(ns) {
			continue
		}
		for key, o := range objects {
			switch before, now := was.takes(o), d.revision.takes(o); {
			case before && !now:
				d.visibleChange(key, o, nil)
			case now && !before:
				d.visibleChange(key, nil, o)
			}
		}
	}
	return true
}

// ForRevision limits the Store to what is for one of several control planes;
// "default" is the name of the one without. It is called before the first
// Apply.
func (s *Store) ForRevision(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.derived.revision.name = name
}

// Owns reports whether objects labelled with a revision or a tag (istio.io/rev)
// are for this control plane.
func (s *Store) Owns(named string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.derived.revision.owns(named)
}

// TagOf is the revision that a tag leads to; empty if there is no such tag.
func (s *Store) TagOf(tag string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.derived.revision.tags[tag]
}
