package meshtest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// ending is how a request can end, the best first.
type ending int

const (
	endsWell    ending = iota
	endsRefused        // 4xx: not found, or not allowed
	endsFailed
)

// endOf is the worst end of a request.
func endOf(a *simulate.Answer) ending {
	worst := endsWell
	for i := range a.Results {
		r := &a.Results[i]
		switch {
		case r.Delivered:
		case r.Status == 0 || r.Status >= 500:
			worst = endsFailed
		case r.Status >= 400:
			worst = max(worst, endsRefused)
		}
	}
	return worst
}

// works reports whether no share of the requests fails.
func works(a *simulate.Answer) bool { return endOf(a) < endsFailed }

// socket is a port of a workload's pods, as they are before or after.
type socket struct {
	workload string
	after    bool
	port     uint16
}

// sockets calls f with where connections of a way go in the end.
func sockets(h *simulate.Hop, f func(workload string, port uint16)) {
	for i := range h.To {
		for j := range h.To[i].Endpoints {
			ep := &h.To[i].Endpoints[j]
			if at, err := netip.ParseAddrPort(ep.Address); err == nil && ep.Percent > 0 && h.Side != "inbound" {
				f(ep.Workload, at.Port())
			}
			if ep.Server != nil {
				sockets(ep.Server, f)
			}
		}
	}
}

// reach notes at which ports workloads are reached before or after.
func (o *ordering) reach(a *simulate.Answer, after bool) {
	sockets(a.Hop, func(workload string, port uint16) { o.reached[socket{workload, after, port}] = true })
}

// moves reports whether a workload's pods change, and are reached at other
// ports after than before.
func (o *ordering) moves(c *ObjectChange) bool {
	if !makesPods(c.Object) || c.Change != "changed" {
		return false
	}
	for s := range o.reached {
		other := s
		other.after = !s.after
		if s.workload == workloadOf(c.Object) && !o.reached[other] {
			return true
		}
	}
	return false
}

func workloadOf(k config.Key) string { return k.Namespace + "/" + k.Name }

// deaf is why nobody knows that a workload listens where a request of a state
// in between goes: as it is then, it is reached there neither before nor after.
func (o *ordering) deaf(a *simulate.Answer, applied subset) (why string) {
	sockets(a.Hop, func(workload string, port uint16) {
		for i := range o.changes {
			c := &o.changes[i]
			if workloadOf(c.Object) == workload && o.moves(c) && !o.reached[socket{workload, applied[i], port}] {
				why = fmt.Sprintf("a request goes to port %d of %s, whose pods then need not listen there", port, c.Object)
			}
		}
	})
	return why
}

// makesPods reports whether an object's pods have to start.
func makesPods(k config.Key) bool {
	switch k.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Pod", "Job", "CronJob":
		return true
	}
	return false
}

// kindsFirst are the kinds whose objects others refer to, in the order in which
// they are tried first; what is removed comes last, and in reverse.
var kindsFirst = []string{"Namespace", "Secret", "ConfigMap", "Service", "ServiceEntry", "WorkloadEntry", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "DestinationRule"}

func rank(c *ObjectChange) int {
	i := slices.Index(kindsFirst, c.Object.Kind)
	if i < 0 {
		i = len(kindsFirst)
	}
	if c.Change == "removed" {
		return 2*len(kindsFirst) + 1 - i
	}
	return i
}

// sort keeps the changes that matter, as the first or as the last one: those
// that proxies are told of, and the namespaces that others are in. They come in
// the order in which they are tried first.
func (o *ordering) sort(changed []ObjectChange) {
	all := make([]config.Key, len(changed))
	for i := range changed {
		all[i] = changed[i].Object
	}
	before, after := o.with(nil), o.with(all)
	for i := range changed {
		others := slices.Delete(slices.Clone(all), i, i+1)
		if len(all) > maxReasoned || o.moves(&changed[i]) || all[i].Kind == "Namespace" || differ(before, o.with(all[i:i+1])) || differ(o.with(others), after) {
			o.changes = append(o.changes, changed[i])
		} else {
			o.without = append(o.without, changed[i].Object)
		}
	}
	slices.SortStableFunc(o.changes, func(a, b ObjectChange) int { return rank(&a) - rank(&b) })
}

// differ reports whether proxies can be told anything else.
func differ(a, b *config.Mesh) bool {
	return len(changedObjects(a, b)) > 0 || len(changedOthers(a, b)) > 0
}

// blocked is why a cluster cannot make a change while exactly some are made: an
// object is in a namespace.
func (o *ordering) blocked(i int, applied subset) *failure {
	for j := range o.changes {
		c := &o.changes[j]
		if c.Object.Kind != "Namespace" || c.Object.Name != o.changes[i].Object.Namespace {
			continue
		}
		if c.Change == "added" && !applied[j] {
			return &failure{why: fmt.Sprintf("%s does not exist yet", c.Object)}
		}
	}
	c := &o.changes[i]
	if c.Object.Kind != "Namespace" || c.Change != "removed" {
		return nil
	}
	for j := range o.changes {
		if o.changes[j].Object.Namespace == c.Object.Name && !applied[j] {
			return &failure{why: fmt.Sprintf("%s is still in it", o.changes[j].Object)}
		}
	}
	return nil
}
