package discovery

import "github.com/pilotfish-mesh/pilotfish/config"

// With returns a Mesh as it would be with one more object of Istio's
// configuration, or with a new version of one; services and endpoints that
// would follow from it are not derived. It does not change m.
func With(m *config.Mesh, o *Object) *config.Mesh {
	next := *o
	next.Meta.Hash = identity(&next)
	b := config.NewBuilder(m)
	c := plainChange{next.Meta.Key, &next}
	c.put(b)
	return b.Mesh()
}
