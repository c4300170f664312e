package translate

import (
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Peers are the servers behind a service as clients of mesh TLS must know
// them: who they are and what they take. They depend on the Mesh alone.
// Immutable, shared by scopes.
type Peers struct {
	// accounts are namespace/account, sorted.
	accounts []string
	// meshTLS are the ports, by name, of which every endpoint takes mesh TLS;
	// none where no cluster asks.
	meshTLS []string
	rules   *peerRules
	hash    config.Hash
}

// peersOf gathers what clients must know of a service's endpoints.
func (ix *Index) peersOf(s *config.Service, rule *Rule) *Peers {
	out := &Peers{rules: ix.peers.in(s.Namespace)}
	if eps, ok := ix.mesh.Endpoints.Get(s.Namespace, s.Hostname); ok {
		out.accounts = eps.Accounts
		if mayFollow(ix.mesh.Settings.Mesh, s, rule) {
			out.meshTLS = eps.MeshTLS
		}
	}
	out.hash = config.NewHasher().Hash(out.rules.hash).
		Uint(uint64(len(out.accounts))).Str(out.accounts...).Str(out.meshTLS...).Sum()
	return out
}

// mayFollow reports whether a cluster of the service may follow a connection's
// own destination (ORIGINAL_DST), which the service's kind or some policy's load
// balancer decides. A first endpoint without a sidecar must not change the
// clusters of all other services.
func mayFollow(mesh *meshconfig.MeshConfig, s *config.Service, rule *Rule) bool {
	return s.Resolution == config.ResolvePassthrough || rule != nil || mesh.GetDefaultTrafficPolicy() != nil
}

// allTakeMeshTLS reports whether connections to whichever endpoint of a port
// may be mesh TLS. Clients that follow a connection's own destination cannot
// tell the endpoints apart.
func (p *Peers) allTakeMeshTLS(s *config.Service, port config.ServicePort) bool {
	if p == nil {
		return false
	}
	for _, name := range p.meshTLS {
		if name == port.Name {
			return p.rules.takesMeshTLS(s.Selector, targetPortNumber(port))
		}
	}
	return false
}

// targetPortNumber is the workload's port as far as the service says it.
func targetPortNumber(p config.ServicePort) uint32 {
	if p.TargetPort != 0 {
		return p.TargetPort
	}
	return p.Number
}

// identities are the names that the certificates of the endpoints may have:
// their accounts, in each trust domain that the mesh knows.
func (p *Peers) identities(mesh *meshconfig.MeshConfig) []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, domain := range trustDomains(mesh) {
		for _, a := range p.accounts {
			ns, account, _ := strings.Cut(a, "/")
			out = append(out, spiffeScheme+domain+"/ns/"+ns+"/sa/"+account)
		}
	}
	return out
}

const spiffeScheme = "spiffe://"

// trustDomains are the mesh's own and those that it takes for its own.
func trustDomains(mesh *meshconfig.MeshConfig) []string {
	own := mesh.GetTrustDomain()
	if own == "" {
		own = defaultTrustDomain
	}
	out := []string{own}
	for _, a := range mesh.GetTrustDomainAliases() {
		if a != own && trustDomainFault(a) == "" {
			out = append(out, a)
		}
	}
	return out
}

const defaultTrustDomain = "cluster.local"
