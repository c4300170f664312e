package snapshot

import (
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Meshes is where published meshes come from: a discovery.Store.
type Meshes interface {
	// Mesh returns the newest Mesh, or nil before the first.
	Mesh() *config.Mesh
	// Changed receives a value after each publication that the reader has not
	// been told of.
	Changed() <-chan struct{}
}

// Source makes the resources of a Mesh. Its methods are pure and may be
// called concurrently.
type Source interface {
	// Arrange prepares one Mesh for look-up.
	Arrange(*config.Mesh) Arrangement
	// Endpoints makes the assignment of one cluster for one viewer.
	Endpoints(spec *translate.EndpointSpec, eps *config.Endpoints, v translate.Viewer) *translate.Resource
	// Secret makes the SDS resource of a name for a proxy of a namespace; nil
	// if there is none that such a proxy may have.
	Secret(m *config.Mesh, r translate.Reader, name string) (*translate.Resource, []config.Problem)
}

// Arrangement is one Mesh, ready to be asked what a proxy is served.
type Arrangement interface {
	// Classes returns one or two classes; what the proxy is served is the
	// union of their resources, whose names are disjoint.
	Classes(*config.Proxy) []translate.Class
	// Gather collects what a class may see. Equal keys mean equal resources;
	// make translates them.
	Gather(translate.Class) (key config.Hash, make func() *translate.Resources)
}

// Translation is the Source that translates Istio configuration.
func Translation(t *translate.Translator) Source { return translation{t} }

type translation struct{ translator *translate.Translator }

func (t translation) Arrange(m *config.Mesh) Arrangement {
	return arrangement{t.translator.Index(m), t.translator}
}

func (t translation) Endpoints(spec *translate.EndpointSpec, eps *config.Endpoints, v translate.Viewer) *translate.Resource {
	return t.translator.Endpoints(spec, eps, v)
}

func (t translation) Secret(m *config.Mesh, r translate.Reader, name string) (*translate.Resource, []config.Problem) {
	return t.translator.Secret(m, r, name)
}

type arrangement struct {
	index      *translate.Index
	translator *translate.Translator
}

func (a arrangement) Classes(p *config.Proxy) []translate.Class { return a.index.Classes(p) }

func (a arrangement) Gather(c translate.Class) (config.Hash, func() *translate.Resources) {
	s := a.index.Scope(c)
	return s.Key(), func() *translate.Resources { return a.translator.Translate(s) }
}
