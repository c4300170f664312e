package simulate

import (
	"cmp"
	"slices"
)

// Result is one way in which a request can end.
type Result struct {
	// Percent of the requests that end like this.
	Percent float64 `json:"percent"`
	// Delivered: an application gets it. Otherwise a proxy answered.
	Delivered bool `json:"delivered"`
	// Workload and Labels are those of the application; outside for one that
	// is not of the mesh.
	Workload string            `json:"workload,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Address  string            `json:"address,omitempty"`
	// Cluster is the one that the last client-side proxy picked.
	Cluster string `json:"cluster,omitempty"`
	// Security is how the server was reached.
	Security string `json:"security,omitempty"`
	// Strict: the server takes nothing but mTLS.
	Strict bool `json:"strict,omitempty"`
	// Status is what the client gets where a proxy answered: the HTTP status,
	// 0 for a connection that is closed.
	Status int     `json:"status,omitempty"`
	Reason string  `json:"reason,omitempty"`
	By     string  `json:"by,omitempty"` // the proxy that answered
	Source *Source `json:"source,omitempty"`
	// Sent is the request as the application gets it.
	Sent *Sent `json:"-"`
}

// results lists the ends of a way, the likeliest first. Endpoints of one
// workload make one result.
func results(h *Hop) []Result {
	var out []Result
	gather(h, 100, "", "", &out)
	var merged []Result
	for _, r := range out {
		i := slices.IndexFunc(merged, func(m Result) bool {
			return m.Delivered == r.Delivered && m.Workload == r.Workload && m.Cluster == r.Cluster && m.Security == r.Security &&
				m.Status == r.Status && m.Reason == r.Reason && m.By == r.By && m.Labels["version"] == r.Labels["version"]
		})
		if i < 0 {
			merged = append(merged, r)
			continue
		}
		merged[i].Percent += r.Percent
		merged[i].Address = ""
	}
	slices.SortStableFunc(merged, func(a, b Result) int { return cmp.Compare(b.Percent, a.Percent) })
	return merged
}

func gather(h *Hop, percent float64, cluster, security string, out *[]Result) {
	answered := func(p float64, r *Reply) {
		*out = append(*out, Result{
			Percent: p, Status: r.Status, Reason: r.Reason, By: h.Proxy, Source: r.Source, Cluster: cluster, Security: security,
		})
	}
	if h.Reply != nil {
		answered(percent, h.Reply)
		return
	}
	if f := h.Fault; f != nil && f.AbortPercent > 0 {
		answered(percent*f.AbortPercent/100, &Reply{Status: f.Abort, Reason: "a fault is injected on purpose", Source: h.Route.Source})
		percent -= percent * f.AbortPercent / 100
	}
	for i := range h.To {
		d := &h.To[i]
		share := percent * d.Percent / 100
		name := d.Cluster
		if h.Side == "inbound" {
			name = cluster
		}
		if d.Reply != nil {
			r := *d.Reply
			*out = append(*out, Result{Percent: share, Status: r.Status, Reason: r.Reason, By: h.Proxy, Source: cmp.Or(r.Source, d.Source), Cluster: name, Security: security})
			continue
		}
		sent := d.Sent
		if sent == nil {
			sent = h.Sent
		}
		for j := range d.Endpoints {
			ep := &d.Endpoints[j]
			p := share * ep.Percent / 100
			if p == 0 {
				continue
			}
			mode := security
			if h.Side != "inbound" {
				mode = ep.Security.Mode
			}
			if ep.Server != nil {
				gatherServer(h, ep, p, name, mode, out)
				continue
			}
			*out = append(*out, Result{
				Percent: p, Delivered: true, Workload: ep.Workload, Labels: ep.Labels, Address: ep.Address,
				Cluster: name, Security: mode, Sent: sent,
			})
		}
	}
}

// gatherServer adds the ends behind an endpoint. A server that closes the
// connection makes the client's proxy answer 503 to a request.
func gatherServer(h *Hop, ep *Endpoint, percent float64, cluster, mode string, out *[]Result) {
	from := len(*out)
	gather(ep.Server, percent, cluster, mode, out)
	for i := from; i < len(*out); i++ {
		r := &(*out)[i]
		if !r.Delivered && r.Status == 0 && h.Sent != nil && h.Side != "none" && h.Proxy != "no proxy" {
			r.Status = 503
		}
		r.Strict = r.Strict || ep.Server.Strict
		if r.Delivered && r.Workload == "" {
			r.Workload, r.Labels = ep.Workload, ep.Labels
		}
	}
}
