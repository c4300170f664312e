package snapshot_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// simulated is a proxy of a history. It takes responses into use when they
// come, as Envoy does, and acknowledges them later.
type simulated struct {
	*client
	h    *history
	name string
	// patient proxies acknowledge clusters only when they have the endpoints
	// of those that are new or changed, as Envoy does.
	patient bool

	have     map[string]map[string]int    // by type and name: the number in use
	versions map[string]map[string]string // delta
	bodies   map[string]string            // of endpoints, by cluster
	version  map[string]string            // sotw: acknowledged, by type
	applied  map[string]string            // sotw: in use, by type
	asked    map[string][]string          // eds, rds: the names subscribed to
	open     []*unanswered                // in order of arrival
	lds      bool                         // listeners are subscribed to
	// lost are last good versions that came to a proxy that had none before, of
	// whose clusters the mesh has some no longer: they serve what they can.
	lost map[int]bool
}

// unanswered is a response that was taken into use or rejected, before the
// server knows it.
type unanswered struct {
	response *received
	reject   string         // the error to answer with
	added    []string       // names that were not there before
	replaced map[string]int // names that had another number before
	gone     map[string]int // names that were there before
	cold     []string       // clusters that have no endpoints yet
}

func (h *history) connect(name string, isSotW bool) *simulated {
	p := &simulated{
		h: h, name: name, patient: h.rng.IntN(2) == 0,
		have:     map[string]map[string]int{cds: {}, lds: {}, rds: {}},
		versions: map[string]map[string]string{cds: {}, eds: {}, lds: {}, rds: {}},
		bodies:   map[string]string{}, lost: map[int]bool{}, version: map[string]string{}, applied: map[string]string{}, asked: map[string][]string{},
	}
	p.client = h.server.client(name, isSotW)
	p.subscribe(cds)
	return p
}

// reconnect cuts the stream and says on a new one what the proxy has.
func (p *simulated) reconnect() {
	if !p.lds {
		return
	}
	p.h.note("%s reconnects with %v, subscribed to %v", p.name, p.have, p.asked)
	p.cancel()
	p.open = nil
	p.client = p.h.server.client(p.name, p.isSotW)
	for _, url := range []string{cds, eds, lds, rds} {
		switch names := p.asked[url]; {
		case p.isSotW:
			p.names[url], p.has[url] = names, p.applied[url]
			p.version[url] = p.applied[url]
			p.last[url] = &received{}
			p.state(url, nil)
		default:
			p.resume(url, p.versions[url], names...)
		}
	}
}

// drain takes what the server has to send now.
func (p *simulated) drain() {
	p.t.Helper()
	for range 2 { // the answer may come before listeners and routes
		p.subscribe(ecds, fmt.Sprintf("nothing-%d", time.Now().UnixNano()))
		for n := 0; ; n++ {
			if n > 1000 {
				p.t.Fatalf("%s is sent to without end", p.name)
			}
			r := p.recv()
			if r.url == ecds {
				p.ack(r)
				break
			}
			p.receive(r)
		}
	}
}

// receive takes a response into use, or decides to reject it.
func (p *simulated) receive(r *received) {
	p.t.Helper()
	u := &unanswered{response: r, replaced: map[string]int{}, gone: map[string]int{}}
	p.open = append(p.open, u)
	if r.url == eds {
		p.applied[eds] = r.version
		p.receiveEndpoints(r)
		p.h.note("%s <- %v", p.name, r)
		return
	}
	numbers := map[string]int{}
	var named, unnamed []string
	for _, n := range r.names {
		if r.url == rds && !slices.Contains(p.asked[rds], n) {
			continue // unsubscribed since
		}
		v, err := numberOf(r.url, r.bodies[n])
		if err != nil {
			p.t.Fatal(err)
		}
		switch numbers[n] = v; {
		case v%10 == badByName:
			named = append(named, n)
		case v%10 == badUnnamed:
			unnamed = append(unnamed, n)
		}
	}
	p.h.note("%s <- %v %v", p.name, r, numbers)
	switch {
	case len(unnamed) > 0, len(named) > 0 && r.url == rds:
		u.reject = "the message does not decode"
		p.h.note("%s rejects all of it", p.name)
		return
	case len(named) > 0:
		u.reject = "Error adding/updating " + map[string]string{cds: "cluster", lds: "listener"}[r.url] + "(s) " +
			strings.Join(named, ": refused, ") + ": refused"
		p.h.note("%s rejects %v", p.name, named)
	}
	for _, n := range named {
		delete(numbers, n)
	}
	if u.reject == "" {
		p.applied[r.url] = r.version
	}
	p.apply(u, numbers)
	p.resubscribe(r.url, u)
	p.check()
}

// apply takes resources into use.
func (p *simulated) apply(u *unanswered, numbers map[string]int) {
	r, have := u.response, p.have[u.response.url]
	for n, v := range numbers {
		switch old, ok := have[n]; {
		case !ok:
			u.added = append(u.added, n)
			if r.url != cds && !all(p.h.refs[v].Clusters, p.h.world.now().clusters) {
				p.lost[v] = true
			}
		case old != v:
			u.replaced[n] = old
		}
		if old, ok := have[n]; r.url == cds && (!ok || old != v) && p.patient {
			u.cold = append(u.cold, n)
		}
		have[n] = v
		p.versions[r.url][n] = r.versions[n]
	}
	removed := r.removed
	if p.isSotW && r.url != rds {
		for n := range have {
			if !slices.Contains(r.names, n) {
				removed = append(removed, n)
			}
		}
	}
	for _, n := range removed {
		if v, ok := have[n]; ok {
			u.gone[n] = v
		}
		delete(have, n)
		delete(p.versions[r.url], n)
	}
}

func (p *simulated) receiveEndpoints(r *received) {
	for _, n := range r.names {
		if !slices.Contains(p.asked[eds], n) {
			continue
		}
		p.bodies[n], p.versions[eds][n] = string(r.bodies[n]), r.versions[n]
	}
	for _, n := range r.removed {
		delete(p.bodies, n)
		delete(p.versions[eds], n)
	}
	for _, u := range p.open {
		u.cold = slices.DeleteFunc(u.cold, func(n string) bool {
			return slices.Contains(r.names, n) || slices.Contains(r.removed, n)
		})
	}
}

// resubscribe asks for what clusters and listeners now point to.
func (p *simulated) resubscribe(url string, u *unanswered) {
	to, names := eds, slices.Sorted(maps.Keys(p.have[cds]))
	switch url {
	case rds:
		return
	case lds:
		to, names = rds, nil
		for _, v := range p.have[lds] {
			names = append(names, p.h.refs[v].Routes...)
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	had := p.asked[to]
	add := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(had, n) })
	drop := slices.DeleteFunc(slices.Clone(had), func(n string) bool { return slices.Contains(names, n) })
	p.asked[to] = names
	for _, n := range drop {
		delete(p.versions[to], n)
		if to == rds {
			delete(p.have[rds], n)
		} else {
			delete(p.bodies, n)
		}
	}
	for _, o := range p.open {
		o.cold = slices.DeleteFunc(o.cold, func(n string) bool { return slices.Contains(drop, n) })
	}
	p.h.note("%s asks for %s %v, not %v", p.name, short(to), add, drop)
	switch {
	case p.isSotW && (len(add)+len(drop) > 0 || to == eds && len(u.cold) > 0):
		for _, o := range slices.Clone(p.open) {
			if o.response.url == to {
				p.answer(o) // a later request with the nonce of this one would acknowledge it
			}
		}
		p.names[to] = names
		p.has[to] = p.version[to]
		p.state(to, nil)
	case !p.isSotW && len(add)+len(drop) > 0:
		p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: to, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop})
	}
}

// answerOne acknowledges or rejects the oldest response of some type; false if
// there is none that can be answered.
func (p *simulated) answerOne() bool {
	p.t.Helper()
	var can []*unanswered
	seen := map[string]bool{}
	for _, u := range p.open {
		if !seen[u.response.url] && len(u.cold) == 0 {
			can = append(can, u)
		}
		seen[u.response.url] = true
	}
	if len(can) == 0 {
		return false
	}
	p.answer(can[p.h.rng.IntN(len(can))])
	return true
}

func (p *simulated) answer(u *unanswered) {
	p.t.Helper()
	p.open = slices.DeleteFunc(p.open, func(o *unanswered) bool { return o == u })
	p.h.note("%s answers %v %s", p.name, u.response, u.reject)
	if url := u.response.url; p.isSotW {
		p.names[url], p.has[url] = p.asked[url], p.version[url]
		if u.reject == "" {
			p.version[url] = u.response.version
		}
	}
	if u.reject != "" {
		p.nack(u.response, u.reject)
	} else {
		p.ack(u.response)
	}
	if u.response.url == cds && !p.lds {
		p.lds = true
		p.subscribe(lds)
	}
}

// check is the property: whatever of the unanswered responses the proxy has in
// use by now, nothing leads to a cluster that it may not have.
func (p *simulated) check() {
	p.t.Helper()
	sure := maps.Clone(p.have[cds])
	var using []map[string]int
	for _, u := range p.open {
		switch u.response.url {
		case cds:
			for _, n := range u.added {
				delete(sure, n)
			}
		case lds, rds:
			using = append(using, u.replaced, u.gone)
		}
	}
	for _, m := range append(using, p.have[lds], p.have[rds]) {
		for name, v := range m {
			for _, to := range p.h.refs[v].Clusters {
				if p.lost[v] {
					break
				}
				if _, ok := sure[to]; !ok {
					p.t.Fatalf("%s: %s (%d) leads to %s, of which it may only have %v", p.name, name, v, to,
						slices.Sorted(maps.Keys(sure)))
				}
			}
		}
	}
}

// summary is what the proxy has of a type, for comparison.
func (p *simulated) summary(url string) string {
	var out []string
	if url == eds {
		for _, n := range slices.Sorted(maps.Keys(p.bodies)) {
			out = append(out, fmt.Sprintf("%s=%x@%s", n, p.bodies[n], p.versions[eds][n]))
		}
		return strings.Join(out, " ")
	}
	for _, n := range slices.Sorted(maps.Keys(p.have[url])) {
		out = append(out, fmt.Sprintf("%s=%d@%s", n, p.have[url][n], p.versions[url][n]))
	}
	return strings.Join(out, " ")
}

// numberOf reads a resource's number from its body.
func numberOf(url string, body []byte) (int, error) {
	switch url {
	case cds:
		m := &cluster.Cluster{}
		err := proto.Unmarshal(body, m)
		return int(m.GetConnectTimeout().GetSeconds()), err
	case lds:
		m := &listener.Listener{}
		if err := proto.Unmarshal(body, m); err != nil {
			return 0, err
		}
		return strconv.Atoi(m.StatPrefix)
	case rds:
		m := &route.RouteConfiguration{}
		if err := proto.Unmarshal(body, m); err != nil || len(m.VirtualHosts) != 1 {
			return 0, fmt.Errorf("a route with %d hosts, %w", len(m.GetVirtualHosts()), err)
		}
		return strconv.Atoi(m.VirtualHosts[0].Name)
	}
	return 0, fmt.Errorf("unexpected type %s", url)
}
