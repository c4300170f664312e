package simulate

import (
	"maps"
	"net/netip"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// injected is the mesh as it is when the workloads of its files run: those
// with a sidecar carry the label by which clients know that they take mesh
// TLS. Workloads of a cluster say themselves what they are.
func injected(m *config.Mesh, sidecar map[netip.Addr]*Pod) *config.Mesh {
	b := config.NewBuilder(m)
	for e := range m.Endpoints.All() {
		if made := withMeshTLS(e, sidecar); made != nil {
			config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, made)
		}
	}
	return b.Mesh()
}

// withMeshTLS is nil where nothing changes.
func withMeshTLS(e *config.Endpoints, sidecar map[netip.Addr]*Pod) *config.Endpoints {
	changed := false
	byPort := maps.Clone(e.ByPort)
	for port, list := range byPort {
		var out []config.Endpoint
		for i := range list {
			a, err := netip.ParseAddr(list[i].Address)
			p := sidecar[a]
			if err != nil || p == nil || p.Role != config.SidecarPod || p.File == "" || list[i].MTLS || list[i].Workload != p.Workload.Name {
				continue
			}
			if out == nil {
				out = append(out, list...)
			}
			out[i].MTLS, changed = true, true
		}
		if out != nil {
			byPort[port] = out
		}
	}
	if !changed {
		return nil
	}
	return config.NewEndpoints(e.ID, byPort, config.NewHasher().Str("injected").Hash(e.Hash).Sum())
}
