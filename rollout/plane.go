package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/replicas"
)

// rejectedByProxy is the code of the Problems that proxies have.
const rejectedByProxy = "ProxyRejected"

// distributed is how far a version of an object has come, over all replicas.
type distributed struct {
	proxies  int
	waiting  []string
	rejected []string // what proxies say of it
	behind   int      // replicas that do not have the version in service
	replicas int
	problem  string // that the control plane has with the object
}

// done reports whether every proxy has acknowledged it.
func (d *distributed) done() bool { return d.behind == 0 && len(d.waiting) == 0 }

// String is for people.
func (d *distributed) String() string {
	switch {
	case d.behind > 0 && d.problem != "":
		return d.problem
	case d.behind > 0:
		return fmt.Sprintf("%d of %d replicas of the control plane do not have it in service", d.behind, d.replicas)
	case len(d.waiting) > 0:
		some := d.waiting[:min(3, len(d.waiting))]
		return fmt.Sprintf("%d of %d proxies have not acknowledged it, such as %s", len(d.waiting), d.proxies, strings.Join(some, ", "))
	default:
		return fmt.Sprintf("%d proxies have acknowledged it", d.proxies)
	}
}

// distribution asks every replica about a generation of a VirtualService.
func distribution(ctx context.Context, r replicas.Set, namespace, name string, generation int64) (*distributed, error) {
	pages, err := (&replicas.Client{Set: r}).Held(ctx, "VirtualService", namespace, name)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	out := &distributed{replicas: len(pages)}
	for i := range pages {
		page := &pages[i]
		out.proxies += len(page.Proxies)
		for _, p := range page.Proxies {
			if !p.Newest {
				out.waiting = append(out.waiting, p.Proxy)
			}
		}
		if page.Generation < generation {
			out.behind++
		}
		for _, p := range page.Problems {
			switch {
			case p.Code == rejectedByProxy:
				out.rejected = append(out.rejected, p.Message)
			case page.Generation < generation:
				out.problem = strings.TrimPrefix(p.Field+": "+p.Message, ": ")
			}
		}
	}
	slices.Sort(out.waiting)
	return out, nil
}
