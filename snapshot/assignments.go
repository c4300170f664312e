package snapshot

import (
	"runtime"
	"sync"
	"weak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// assignment identifies one cluster's endpoints as one viewer sees them.
type assignment struct {
	spec, endpoints config.Hash
	viewer          translate.Viewer
}

// assignments are the endpoint assignments that some layer has, so that classes
// share them. It keeps none alive: churn makes new ones for as long as it goes
// on, and nobody needs those of before. It is no part of anything larger: what its
// cleanups reach lives as long as the resources.
type assignments struct {
	mu   sync.Mutex
	made map[assignment]weak.Pointer[translate.Resource]
}

func (a *assignments) get(key assignment) *translate.Resource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made[key].Value()
}

// add returns the resource that is remembered under key: r, unless another one
// came first.
func (a *assignments) add(key assignment, r *translate.Resource) *translate.Resource {
	a.mu.Lock()
	defer a.mu.Unlock()
	if first := a.made[key].Value(); first != nil {
		return first
	}
	if a.made == nil {
		a.made = map[assignment]weak.Pointer[translate.Resource]{}
	}
	a.made[key] = weak.Make(r)
	runtime.AddCleanup(r, a.forget, key)
	return r
}

// forget drops a key whose resource nobody has any more.
func (a *assignments) forget(key assignment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := a.made[key]; ok && p.Value() == nil {
		delete(a.made, key)
	}
}
