package snapshot_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// follower is a proxy of real resources: it subscribes to what they name, as
// Envoy does, and keeps their bytes.
type follower struct {
	*client
	soak                  *exampleSoak
	name, kind, namespace string
	labels                map[string]any
	isSotW                bool

	have     map[string]map[string][]byte // by type and name
	versions map[string]map[string]string // delta
	applied  map[string]string            // sotw: the version in use, by type
	asked    map[string][]string          // eds, rds: the names subscribed to
	open     []*rejectable                // not answered yet, in order
	lds      bool
}

// rejectable is a response and the error to answer it with, if any.
type rejectable struct {
	*received
	reject string
}

func (p *follower) dial(r *running) {
	p.client = r.client(p.name, p.isSotW)
	md, err := structpb.NewStruct(map[string]any{"NAMESPACE": p.namespace, "LABELS": p.labels, "ISTIO_VERSION": "1.31.0"})
	if err != nil {
		panic(err)
	}
	p.node = &core.Node{Id: p.kind + "~10.0.0.1~" + p.name + "." + p.namespace + "~" + p.namespace + ".svc.cluster.local", Metadata: md}
	p.open = nil
}

// connect is a new proxy's connection.
func (p *follower) connect(r *running) {
	p.have = map[string]map[string][]byte{cds: {}, eds: {}, lds: {}, rds: {}}
	p.versions = map[string]map[string]string{cds: {}, eds: {}, lds: {}, rds: {}}
	p.applied, p.asked, p.lds = map[string]string{}, map[string][]string{}, false
	p.dial(r)
	p.subscribe(cds)
}

// reconnect says on a new stream to the newest Plane what the proxy has.
func (p *follower) reconnect() {
	if !p.lds {
		return
	}
	p.cancel()
	p.dial(p.soak.now)
	for _, url := range []string{cds, eds, lds, rds} {
		names := p.asked[url]
		if names == nil && (url == eds || url == rds) {
			continue
		}
		if p.isSotW {
			p.names[url], p.has[url], p.last[url] = names, p.applied[url], &received{}
			p.state(url, nil)
		} else {
			p.resume(url, p.versions[url], names...)
		}
	}
}

// drain takes what the server has to send now.
func (p *follower) drain() {
	p.t.Helper()
	for range 2 { // the answer may come before listeners and routes
		p.subscribe(ecds, fmt.Sprintf("nothing-%d", time.Now().UnixNano()))
		for r := p.recv(); ; r = p.recv() {
			if r.url == ecds {
				p.ack(r)
				break
			}
			p.receive(r)
		}
	}
}

// receive takes a response into use, but for what it rejects.
func (p *follower) receive(r *received) {
	p.t.Helper()
	u := &rejectable{received: r}
	p.open = append(p.open, u)
	var bad []string
	for n, body := range r.bodies {
		if p.rejects(r.url, body) {
			bad = append(bad, n)
		}
	}
	if len(bad) > 0 {
		p.soak.rejections++
		if r.url == rds {
			u.reject = "the message does not decode"
			return
		}
		u.reject = "Error adding/updating cluster(s) " + strings.Join(bad, ": refused, ") + ": refused"
	} else {
		p.applied[r.url] = r.version
	}
	have, removed := p.have[r.url], r.removed
	if p.isSotW && (r.url == cds || r.url == lds) {
		for n := range have {
			if !slices.Contains(r.names, n) {
				removed = append(removed, n)
			}
		}
	}
	for _, n := range removed {
		delete(have, n)
		delete(p.versions[r.url], n)
	}
	for n, body := range r.bodies {
		if slices.Contains(bad, n) || (r.url == eds || r.url == rds) && !slices.Contains(p.asked[r.url], n) {
			continue
		}
		have[n], p.versions[r.url][n] = body, r.versions[n]
	}
	p.resubscribe(r.url)
}

func (p *follower) rejects(url string, body []byte) bool {
	switch url {
	case cds:
		m := &cluster.Cluster{}
		p.decode(body, m)
		return m.GetConnectTimeout().GetSeconds() == int64(aBadNumber+1)
	case rds:
		return bytes.Contains(body, fmt.Appendf(nil, "number-%d.", aBadNumber+1))
	}
	return false
}

func (p *follower) decode(body []byte, m proto.Message) {
	p.t.Helper()
	if err := proto.Unmarshal(body, m); err != nil {
		p.t.Fatal(err)
	}
}

// resubscribe asks for what the clusters or listeners now name.
func (p *follower) resubscribe(url string) {
	p.t.Helper()
	to, names := eds, []string(nil)
	switch url {
	case cds:
		for _, body := range p.have[cds] {
			m := &cluster.Cluster{}
			p.decode(body, m)
			if n := m.GetEdsClusterConfig().GetServiceName(); n != "" {
				names = append(names, n)
			} else if m.GetType() == cluster.Cluster_EDS {
				names = append(names, m.Name)
			}
		}
	case lds:
		to = rds
		for _, body := range p.have[lds] {
			names = append(names, p.routesOf(body)...)
		}
	default:
		return
	}
	slices.Sort(names)
	names = slices.Compact(names)
	had := p.asked[to]
	add := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(had, n) })
	drop := slices.DeleteFunc(slices.Clone(had), func(n string) bool { return slices.Contains(names, n) })
	p.asked[to] = names
	for _, n := range drop {
		delete(p.have[to], n)
		delete(p.versions[to], n)
	}
	switch {
	case len(add)+len(drop) == 0 && (!p.isSotW || to != eds || len(names) == 0):
	case p.isSotW: // of endpoints Envoy asks again whenever clusters were updated
		for _, o := range slices.Clone(p.open) {
			if o.url == to {
				p.answer(o) // a later request with the nonce of this one would acknowledge it
			}
		}
		p.names[to] = names
		p.state(to, nil)
	default:
		p.send(&discovery.DeltaDiscoveryRequest{TypeUrl: to, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop})
	}
}

// routesOf are the route tables that a listener names.
func (p *follower) routesOf(body []byte) (out []string) {
	m := &listener.Listener{}
	p.decode(body, m)
	for _, chain := range append(m.FilterChains, m.DefaultFilterChain) {
		for _, f := range chain.GetFilters() {
			h := &hcm.HttpConnectionManager{}
			if f.GetTypedConfig().MessageIs(h) {
				p.decode(f.GetTypedConfig().Value, h)
				if n := h.GetRds().GetRouteConfigName(); n != "" {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

// answerOne answers the oldest response; false if there is none.
func (p *follower) answerOne() bool {
	if len(p.open) == 0 {
		return false
	}
	p.answer(p.open[0])
	return true
}

func (p *follower) answer(u *rejectable) {
	p.t.Helper()
	p.open = slices.DeleteFunc(p.open, func(o *rejectable) bool { return o == u })
	if p.isSotW {
		p.names[u.url] = p.asked[u.url]
	}
	if u.reject != "" {
		p.nack(u.received, u.reject)
	} else {
		p.ack(u.received)
	}
	if u.url == cds && !p.lds {
		p.lds = true
		p.subscribe(lds)
	}
}

// difference is where what the proxy has differs from what another one has.
func (p *follower) difference(want *follower) string {
	for _, url := range []string{cds, eds, lds, rds} {
		names := map[string]bool{}
		for n := range p.have[url] {
			names[n] = true
		}
		for n := range want.have[url] {
			names[n] = true
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			got, has := p.have[url][n]
			body, wants := want.have[url][n]
			if has != wants || !bytes.Equal(got, body) || p.versions[url][n] != want.versions[url][n] {
				return fmt.Sprintf("%s (%s in %s): %s %s: there %v, of %d bytes, version %s; a fresh one: %v, %d, %s", p.name, p.kind, p.namespace,
					short(url), n, has, len(got), p.versions[url][n], wants, len(body), want.versions[url][n])
			}
		}
	}
	return ""
}
