package simulate

import "github.com/pilotfish-mesh/pilotfish/translate"

// peers notes the PeerAuthentication that decides how connections may come to a
// pod's port, also as what closes one. Envoy's resources do not tell: filter
// chains are the Service's, and there is none for what is refused.
func (w *World) peers(h *Hop, p *Pod, port uint32, conn *Conn) {
	policy, field, mode := translate.PeerAuthenticationOf(w.Mesh, p.Namespace, p.Labels, port)
	if policy == nil {
		return
	}
	h.Peers = &Source{Object: policy.Key, File: policy.File, Line: policy.LineOf(field)}
	closed := h.Reply != nil && h.Reply.Flag == "NR" && (h.Chain == nil || h.Chain.Name == "")
	if closed && mode == translate.PeerStrict && (conn.TLS == nil || !conn.TLS.Mesh) {
		h.Reply.Source = h.Peers
	}
}
