package serve

import (
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// tally counts what metrics say of a Mesh's services and workloads. From one Mesh
// to the next it looks at what has changed only.
type tally struct {
	mu   sync.Mutex
	mesh *config.Mesh // that it was made of; nil for none yet
	// noInstances are the ports of services without an endpoint that can be used.
	noInstances map[config.ServiceID]int
	counts      tallied
}

// tallied are numbers of a tally.
type tallied struct {
	noInstances int // ports
	noIP        int // workloads that are ready without an address
	notReady    int // workloads that have an address and are not ready
}

// of brings the tally to a Mesh; nil is an empty one.
func (t *tally) of(m *config.Mesh) tallied {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m == nil || m == t.mesh {
		return t.counts
	}
	before := t.mesh
	if before == nil {
		before, t.noInstances = &config.Mesh{}, map[config.ServiceID]int{}
	}
	t.mesh = m
	for old, now := range m.Workloads.Changed(before.Workloads) {
		t.counts.workload(old, -1)
		t.counts.workload(now, 1)
	}
	for old, now := range m.Endpoints.Changed(before.Endpoints) {
		if old != nil {
			t.service(m, old.ID)
		}
		if now != nil {
			t.service(m, now.ID)
		}
	}
	for old, now := range m.Services.Changed(before.Services) {
		if old != nil {
			t.service(m, old.ID())
		}
		if now != nil {
			t.service(m, now.ID())
		}
	}
	return t.counts
}

// workload counts one n times; nil is none.
func (c *tallied) workload(w *config.Workload, n int) {
	switch {
	case w == nil:
	case len(w.IPs) == 0 && w.Ready:
		c.noIP += n
	case len(w.IPs) > 0 && !w.Ready:
		c.notReady += n
	}
}

// service counts a service anew.
func (t *tally) service(m *config.Mesh, id config.ServiceID) {
	n := 0
	if s, ok := m.Services.Get(id.Namespace, id.Hostname); ok && s.Resolution == config.ResolveEDS {
		n = portsWithoutInstances(m, s)
	}
	t.counts.noInstances += n - t.noInstances[id]
	if n == 0 {
		delete(t.noInstances, id)
	} else {
		t.noInstances[id] = n
	}
}

func portsWithoutInstances(m *config.Mesh, s *config.Service) int {
	n := len(s.Ports)
	e, ok := m.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return n
	}
	for _, p := range s.Ports {
		for i := range e.ByPort[p.Name] {
			if s.PublishNotReady || e.ByPort[p.Name][i].Health == config.Healthy {
				n--
				break
			}
		}
	}
	return n
}
