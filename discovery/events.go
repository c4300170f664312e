package discovery

import (
	"cmp"
	"maps"
	"slices"
)

// Event is one sort of change of what is in effect.
type Event struct {
	// Istio is set for Istio's kinds, clear for Kubernetes' own.
	Istio bool
	Kind  string
	Event string // add, update or delete
}

// EventCount is how often an Event has happened.
type EventCount struct {
	Event
	N uint64
}

// Events count the changes that have come into effect so far, by kind, then
// event.
func (s *Store) Events() []EventCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]EventCount, 0, len(s.events))
	for e, n := range s.events {
		out = append(out, EventCount{e, n})
	}
	slices.SortFunc(out, func(a, b EventCount) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Event.Event, b.Event.Event))
	})
	return out
}

// Triggers count the published Meshes by what in them had changed: config,
// service, endpoint, secret, namespaceupdate or global. A Mesh with changes of
// several sorts counts for each.
func (s *Store) Triggers() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.triggers)
}

// happened notes that an object came into effect, changed or went.
func (s *Store) happened(before, after *Object) {
	e, o := Event{Event: "update"}, after
	switch {
	case before == nil:
		e.Event = "add"
	case after == nil:
		e.Event, o = "delete", before
	}
	e.Istio, e.Kind = isIstio(o.Meta.Key), o.Meta.Kind
	s.events[e]++
	s.since[trigger(&e)] = true
}

// trigger is the reason for a push, by the name that it has at istiod.
func trigger(e *Event) string {
	switch {
	case e.Istio:
		return "config"
	case e.Kind == "Service":
		return "service"
	case e.Kind == "EndpointSlice", e.Kind == "Pod":
		return "endpoint"
	case e.Kind == "Secret":
		return "secret"
	case e.Kind == "Namespace":
		return "namespaceupdate"
	case e.Kind == "ConfigMap", e.Kind == "Node":
		return "global"
	}
	return "config"
}

// triggered counts a publication.
func (s *Store) triggered() {
	for reason := range s.since {
		s.triggers[reason]++
	}
	clear(s.since)
}
