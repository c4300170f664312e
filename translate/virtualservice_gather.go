package translate

import "github.com/pilotfish-mesh/pilotfish/config"

// SettledVirtualService is a VirtualService with its delegates merged in and
// its hosts spelled out. A pure function of those objects; shared by scopes.
type SettledVirtualService struct {
	*config.VirtualService
	Hosts []string
	Hash  config.Hash
}

type virtualServiceIndex struct{}

func newVirtualServiceIndex(*config.Mesh, *serviceIndex) virtualServiceIndex {
	return virtualServiceIndex{}
}
