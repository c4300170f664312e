package config

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// Key names one object, as the API server does. Group is empty for the core
// Kubernetes kinds, Namespace for cluster-scoped ones.
type Key struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is "Kind namespace/name", for people.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Less orders keys by group, kind, namespace, name.
func (k Key) Less(o Key) bool {
	if k.Group != o.Group {
		return k.Group < o.Group
	}
	if k.Kind != o.Kind {
		return k.Kind < o.Kind
	}
	if k.Namespace != o.Namespace {
		return k.Namespace < o.Namespace
	}
	return k.Name < o.Name
}

// Meta is what every object has besides its content.
type Meta struct {
	Key
	// Version is the API version it was read at, such as "v1alpha3".
	Version     string
	Labels      map[string]string
	Annotations map[string]string
	// Created orders objects that claim the same host: the older one wins.
	// It is zero for objects from files that do not carry it.
	Created         time.Time
	Generation      int64
	ResourceVersion string
	// File and Line are where a file source read the object; Line is that of
	// the document's first line, 1-based.
	File string
	Line int
	// Lines maps a field path such as "spec.http[0].route[1].weight" to its
	// line in File. Nil for objects from an API server.
	Lines Lines
	// StandsIn is set if the content is not what somebody wrote.
	StandsIn StandIn `json:",omitempty"`
	// Implied: nobody has written the object, but others that are there need it,
	// as objects need their namespace. What another source says of it counts.
	Implied bool `json:",omitempty"`
	// Hash identifies what of the object translation can see: key, version,
	// labels, annotations, creation, content, and for an object from a file its
	// place there; never resourceVersion or status.
	Hash Hash
}

// StandIn says that an object stands in for a policy that could not be read,
// with the strictest content that it can have had.
type StandIn int

// The kinds of StandIn.
const (
	// StandsInForNothing: the object is what was written.
	StandsInForNothing StandIn = iota
	// StandsInForSelected: selector and targetRefs are as they were written.
	StandsInForSelected
	// StandsInForNamespace: whom the policy selects could not be read, so it
	// is for all whom it can have selected, and comes before all other policies
	// of its namespace.
	StandsInForNamespace
)

// Before reports whether m takes precedence over o where two objects claim
// the same thing: the older first, then by name, then by namespace (the order
// that Istio's documentation gives for VirtualServices of one host).
func (m *Meta) Before(o *Meta) bool {
	if !m.Created.Equal(o.Created) {
		return m.Created.Before(o.Created)
	}
	if m.Name != o.Name {
		return m.Name < o.Name
	}
	return m.Namespace < o.Namespace
}

// ConfigPath is the provenance of a generated resource, the value of
// filter_metadata "istio" "config":
// /apis/<group>/<version>/namespaces/<ns>/<kind>/<name>, with the kind in
// lower case with dashes (virtual-service), as Istio's tools expect it.
func (m *Meta) ConfigPath() string {
	return "/apis/" + m.Group + "/" + m.Version + "/namespaces/" + m.Namespace + "/" + dashed(m.Kind) + "/" + m.Name
}

// LineOf returns the line of a field path, or of its nearest enclosing
// field, or of the object.
func (m *Meta) LineOf(field string) int {
	for f := field; f != ""; {
		if l, ok := m.Lines[f]; ok {
			return l
		}
		i := strings.LastIndexAny(f, ".[")
		if i < 0 {
			break
		}
		f = f[:i]
	}
	return m.Line
}

// Lines maps field paths to 1-based line numbers.
type Lines map[string]int

// Object is one configuration object of Istio's API. Spec must not be
// modified.
type Object[T proto.Message] struct {
	Meta
	Spec T
}

func dashed(kind string) string {
	var b strings.Builder
	for i, r := range kind {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
