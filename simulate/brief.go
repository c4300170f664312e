package simulate

// Brief takes out of an Answer what explains it only: the candidates that did
// not match, and endpoints that get no requests.
func (a *Answer) Brief() { brief(a.Hop, map[*Hop]bool{}) }

func brief(h *Hop, seen map[*Hop]bool) {
	if h == nil || seen[h] {
		return
	}
	seen[h] = true
	for _, d := range []*Decision{h.Listener, h.Chain, h.VirtualHost, h.Route} {
		if d != nil {
			d.Passed = nil
		}
	}
	for i := range h.Filters {
		h.Filters[i].Passed = nil
	}
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			brief(h.To[i].Endpoints[j].Server, seen)
		}
	}
}
