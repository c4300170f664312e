package up

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	syncPoll = 10 * time.Millisecond
	// syncTimeout is how long the proxies may take to acknowledge what they
	// are sent; one that rejects something never does.
	syncTimeout = 10 * time.Second
)

// waitSynced returns when every ready pod can be found by its address and
// every proxy has acknowledged everything that it was sent.
func (m *Mesh) waitSynced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	for {
		behind := m.behind()
		if behind == "" {
			return nil
		}
		if !wait(ctx, syncPoll) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("after %v %s", syncTimeout, behind)
			}
			return ctx.Err()
		}
	}
}

// behind says what is not in order yet, or "".
func (m *Mesh) behind() string {
	mesh := m.plane.Store.Mesh()
	for _, p := range m.podList() {
		w, ok := mesh.Workloads.Get(p.plan.workload.Namespace, p.plan.name)
		if ok && !p.plan.made && !slices.Contains(w.IPs, p.place.addr.String()) && len(w.IPs) == 0 {
			return p.plan.key() + " has no address yet"
		}
	}
	if served := m.plane.Cache.Mesh(); served == nil || served.Sequence != mesh.Sequence {
		return "the newest configuration is not served yet"
	}
	for _, c := range m.plane.Server.Changes() {
		if c.Reached < c.Proxies {
			return fmt.Sprintf("%d of %d proxies have not acknowledged the newest configuration", c.Proxies-c.Reached, c.Proxies)
		}
	}
	return ""
}

// loadTarget is the first gateway that serves HTTP, and a host that it serves.
func (m *Mesh) loadTarget() (url, host string, ok bool) {
	for _, g := range m.Gateways() {
		if g.Protocol.IsHTTP() {
			return g.URL() + "/", servedHost(m.plane.Store.Mesh(), g.Names), true
		}
	}
	return "", "", false
}

// servedHost is a host that some VirtualService has on one of the Gateways;
// "" if any will do.
func servedHost(mesh *config.Mesh, gateways []string) string {
	for vs := range mesh.VirtualServices.All() {
		for _, g := range vs.Spec.GetGateways() {
			if !strings.Contains(g, "/") {
				g = vs.Namespace + "/" + g
			}
			if !slices.Contains(gateways, g) {
				continue
			}
			for _, h := range vs.Spec.GetHosts() {
				switch {
				case h == "*":
					return ""
				case strings.HasPrefix(h, "*."):
					return "www" + h[1:]
				default:
					return h
				}
			}
		}
	}
	return ""
}
