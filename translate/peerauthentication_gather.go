package translate

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// PeerMode says in which forms connections may come to a port.
type PeerMode int

// The modes (security/v1beta1 PeerAuthentication.MutualTLS.Mode).
const (
	// PeerUnset: what the wider policy says, PERMISSIVE if there is none.
	PeerUnset PeerMode = iota
	// PeerDisable: not as mesh TLS.
	PeerDisable
	// PeerPermissive: as mesh TLS, or as anything else.
	PeerPermissive
	// PeerStrict: only as mesh TLS.
	PeerStrict
)

// PeerPolicy is what all PeerAuthentications come to for one workload.
type PeerPolicy struct {
	Mode  PeerMode
	Ports map[uint32]PeerMode // those of the workload that differ, or nil
}

// On is the mode of one of the workload's ports. It is never PeerUnset.
func (p *PeerPolicy) On(port uint32) PeerMode {
	if m, ok := p.Ports[port]; ok {
		return m
	}
	return p.Mode
}

func (p *PeerPolicy) addTo(h config.Hasher) {
	h.Uint(uint64(p.Mode)).Uint(uint64(len(p.Ports)))
	for _, port := range slices.Sorted(maps.Keys(p.Ports)) {
		h.Uint(uint64(port)).Uint(uint64(p.Ports[port]))
	}
}

// peerRules are the PeerAuthentications that count in one namespace.
// Immutable, shared by scopes.
type peerRules struct {
	// mode is that of workloads that no policy selects.
	mode PeerMode
	// peerArrangement has the policies of the namespace before those of the root
	// namespace.
	peerArrangement
	// disables: some policy switches mesh TLS off for some workload or port,
	// which clients must know.
	disables bool
	// hash covers what clients may read: nothing, if mesh TLS is on everywhere.
	hash config.Hash
}

// peerIndex finds the rules of a namespace.
type peerIndex struct {
	others *peerRules // of namespaces without a policy of their own
	own    map[string]*peerRules
}

func newPeerIndex(m *config.Mesh) peerIndex {
	root := arrangedPeers(m, m.RootNamespace())
	x := peerIndex{others: newPeerRules(root), own: map[string]*peerRules{}}
	for _, ns := range m.PeerAuthentications.Namespaces() {
		if ns != m.RootNamespace() {
			x.own[ns] = newPeerRules(arrangedPeers(m, ns).before(root))
		}
	}
	return x
}

func (x *peerIndex) in(namespace string) *peerRules {
	if r, ok := x.own[namespace]; ok {
		return r
	}
	return x.others
}

// peerArrangement are policies by what they are for, each list by precedence.
type peerArrangement struct {
	wide      []*config.PeerAuthentication // for all workloads: one of a namespace
	selecting []*config.PeerAuthentication // for some
}

// arrangedPeers are the policies of a namespace: the oldest one that is for all
// its workloads, and those for some, the older ones first. Of the root namespace
// only those for all count (security/v1beta1 PeerAuthentication, its notes).
func arrangedPeers(m *config.Mesh, ns string) (out peerArrangement) {
	for _, p := range peersInOrder(m.PeerAuthentications.In(ns)) {
		switch {
		case p.StandsIn == config.StandsInForNamespace:
			out.selecting = slices.Insert(out.selecting, 0, p) // it may have been for any of them
		case len(p.Spec.GetSelector().GetMatchLabels()) > 0:
			if ns != m.RootNamespace() {
				out.selecting = append(out.selecting, p)
			}
		case len(out.wide) == 0:
			out.wide = append(out.wide, p)
		}
	}
	return out
}

// before are the policies of a namespace, which go first, and those of the root
// namespace.
func (a peerArrangement) before(root peerArrangement) peerArrangement {
	return peerArrangement{slices.Concat(a.wide, root.wide), slices.Concat(a.selecting, root.selecting)}
}

// forAll is the policy that decides for the workloads that none selects, and its
// mode; nil and PeerUnset if there is none.
func (a *peerArrangement) forAll() (*config.PeerAuthentication, PeerMode) {
	for _, p := range a.wide {
		if mode := modeOf(p.Spec.GetMtls(), PeerUnset); mode != PeerUnset {
			return p, mode
		}
	}
	return nil, PeerUnset
}

// selects is the first policy that selects a workload, or nil.
func (a *peerArrangement) selects(labels map[string]string) *config.PeerAuthentication {
	for _, p := range a.selecting {
		if config.Selects(p.Spec.GetSelector().GetMatchLabels(), labels) {
			return p
		}
	}
	return nil
}

func peersInOrder(list []*config.PeerAuthentication) []*config.PeerAuthentication {
	out := slices.Clone(list)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Before(&out[j].Meta) })
	return out
}

func newPeerRules(a peerArrangement) *peerRules {
	mode := PeerPermissive
	if p, wide := a.forAll(); p != nil {
		mode = wide
	}
	r := &peerRules{mode: mode, peerArrangement: a, disables: mode == PeerDisable}
	for _, p := range a.selecting {
		r.disables = r.disables || turnsOff(p.Spec)
	}
	if r.disables {
		h := config.NewHasher().Uint(uint64(mode))
		for _, p := range a.selecting {
			h.Hash(p.Hash)
		}
		r.hash = h.Sum()
	}
	return r
}

func turnsOff(p *security.PeerAuthentication) bool {
	if modeOf(p.GetMtls(), PeerUnset) == PeerDisable {
		return true
	}
	for _, m := range p.GetPortLevelMtls() {
		if modeOf(m, PeerUnset) == PeerDisable {
			return true
		}
	}
	return false
}

// modeOf is the mode that a setting says, or inherited.
func modeOf(m *security.PeerAuthentication_MutualTLS, inherited PeerMode) PeerMode {
	switch m.GetMode() {
	case security.PeerAuthentication_MutualTLS_UNSET:
		return inherited
	case security.PeerAuthentication_MutualTLS_DISABLE:
		return PeerDisable
	case security.PeerAuthentication_MutualTLS_PERMISSIVE:
		return PeerPermissive
	}
	return PeerStrict // also for what the API does not name
}

// of settles the policy of a workload by its labels.
func (r *peerRules) of(labels map[string]string) PeerPolicy {
	if p := r.selects(labels); p != nil {
		return r.selected(p.Spec)
	}
	return PeerPolicy{Mode: r.mode}
}

func (r *peerRules) selected(p *security.PeerAuthentication) PeerPolicy {
	out := PeerPolicy{Mode: modeOf(p.GetMtls(), r.mode)}
	for port, m := range p.GetPortLevelMtls() {
		if mode := modeOf(m, out.Mode); mode != out.Mode && port >= 1 && port <= 65535 {
			if out.Ports == nil {
				out.Ports = map[uint32]PeerMode{}
			}
			out.Ports[port] = mode
		}
	}
	return out
}

// PeerAuthenticationOf is the policy that decides how connections may come to a
// port of a workload, with the field that does and what it says; nil if none
// does, so that the port is PERMISSIVE.
func PeerAuthenticationOf(m *config.Mesh, namespace string, labels map[string]string, port uint32) (policy *config.PeerAuthentication, field string, mode PeerMode) {
	a := arrangedPeers(m, m.RootNamespace())
	if namespace != m.RootNamespace() {
		a = arrangedPeers(m, namespace).before(a)
	}
	const all = "spec.mtls"
	if p := a.selects(labels); p != nil {
		if mode = modeOf(p.Spec.GetPortLevelMtls()[port], PeerUnset); mode != PeerUnset {
			return p, fmt.Sprintf("spec.portLevelMtls.%d", port), mode
		}
		if mode = modeOf(p.Spec.GetMtls(), PeerUnset); mode != PeerUnset {
			return p, all, mode
		}
	}
	if policy, mode = a.forAll(); policy != nil {
		field = all
	}
	return policy, field, mode
}

// takesMeshTLS reports whether a workload of these labels takes mesh TLS on
// one of its ports.
func (r *peerRules) takesMeshTLS(labels map[string]string, port uint32) bool {
	if r == nil || !r.disables {
		return true
	}
	p := r.of(labels)
	return p.On(port) != PeerDisable
}
