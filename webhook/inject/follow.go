package inject

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Follower keeps the Injector of the newest Mesh. Where the ConfigMap with its
// settings does not parse, the last good settings stay; if there are none, no
// pod is injected, because the wrong proxy may be worse than a pod that waits.
type Follower struct {
	options Options
	now     atomic.Pointer[state]

	mu       sync.Mutex // guards what follows
	source   *config.ConfigMap
	settings *Settings
	mesh     *config.Mesh
}

type state struct {
	injector *Injector
	problem  *config.Problem // of the settings
}

// NewFollower returns a Follower that has not seen a Mesh.
func NewFollower(o Options) *Follower { return &Follower{options: o} }

// Follow takes the next Mesh.
func (f *Follower) Follow(m *config.Mesh) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.now.Load()
	source := f.settingsOf(m)
	sameSettings := was != nil && source == f.source
	if sameSettings && m.Settings == f.mesh.Settings && m.ProxyConfigs.Same(f.mesh.ProxyConfigs) && m.OldestKubelet == f.mesh.OldestKubelet {
		return
	}
	next := &state{}
	if sameSettings {
		next.problem = was.problem
	} else {
		next.problem = f.read(source)
	}
	f.source, f.mesh = source, m
	if f.settings != nil {
		next.injector = New(m, f.settings, f.options)
	}
	f.now.Store(next)
}

// settingsOf is the ConfigMap of the revision, or the plain one, or nil.
func (f *Follower) settingsOf(m *config.Mesh) *config.ConfigMap {
	if f.options.Revision != "" {
		if cm, ok := m.ConfigMaps.Get(systemNamespace, ConfigMapName+"-"+f.options.Revision); ok {
			return cm
		}
	}
	cm, _ := m.ConfigMaps.Get(systemNamespace, ConfigMapName)
	return cm
}

// systemNamespace is where the control plane's own configuration lives.
const systemNamespace = "istio-system"

// read makes the ConfigMap's settings the current ones, or says why not.
func (f *Follower) read(source *config.ConfigMap) *config.Problem {
	var data map[string]string
	if source != nil {
		data = source.Data
	}
	s, err := ParseSettings(data, f.options.Tag)
	if err != nil {
		consequence := "the last good settings stay"
		if f.settings == nil {
			consequence = "no pod is injected until this is mended"
		}
		p := config.At(&source.Meta, "data", config.Error, "InvalidInjection", "%v: %s", err, consequence)
		return &p
	}
	f.settings = s
	return nil
}

var errNotReady = errors.New("not ready: the first view of the mesh is not complete")

// Injector is that of the newest Mesh, or says why there is none.
func (f *Follower) Injector() (*Injector, error) {
	switch s := f.now.Load(); {
	case s == nil:
		return nil, errNotReady
	case s.injector == nil:
		return nil, fmt.Errorf("%s: %s", s.problem.Object, s.problem.Message)
	default:
		return s.injector, nil
	}
}

// Problems are those of the settings.
func (f *Follower) Problems() []config.Problem {
	if s := f.now.Load(); s != nil && s.problem != nil {
		return []config.Problem{*s.problem}
	}
	return nil
}
