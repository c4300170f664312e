package up

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	// readyPoll is how often a starting proxy is asked.
	readyPoll = 30 * time.Millisecond
	// readyTimeout is how long one pod may take to become ready.
	readyTimeout = 40 * time.Second
	// goneTimeout is how long the proxies may take to learn that a pod is
	// gone before it is stopped all the same.
	goneTimeout = 10 * time.Second
	// lingers is how long a pod goes on after that: for requests in flight.
	lingers = 2 * time.Second
)

// reconcile brings the pods to what a mesh asks for. New pods get their
// addresses, by which others find them, when they are ready; pods that are
// gone stop after every proxy knows.
func (m *Mesh) reconcile(ctx context.Context, mesh *config.Mesh) error {
	var start []*podPlan
	var stop []*pod
	m.mu.Lock()
	want := plan(mesh, m.addresses)
	for key, p := range want {
		have := m.pods[key]
		switch {
		case have == nil, sameness(have.plan) != sameness(p):
			start = append(start, p)
		default:
			if err := errors.Join(have.serve(p.ports), m.ground.more(have.place, p.more)); err != nil {
				m.options.Note(err.Error())
			}
		}
	}
	for key, have := range m.pods {
		if want[key] == nil {
			stop = append(stop, have)
			delete(m.pods, key)
			delete(m.addresses, podKey(have.plan))
			m.stopping[have] = true
		}
	}
	m.mu.Unlock()

	replaced, err := m.startPods(ctx, start)
	stop = append(stop, replaced...)
	m.aimGateways(mesh)
	for _, p := range stop {
		m.running.Go(func() { m.retire(ctx, p) })
	}
	return err
}

// sameness is what makes a pod another pod: a proxy cannot change what it
// said about itself. That it takes mesh TLS is not known before it is ready.
func sameness(p *podPlan) config.Hash {
	w := p.workload
	labels := maps.Clone(w.Labels)
	if p.role == sidecar && labels[tlsModeLabel] == "istio" {
		delete(labels, tlsModeLabel)
	}
	return config.NewHasher().Str(p.fixed, p.trustDomain).Hash(p.proxy.hash).Uint(uint64(p.role)).Map(labels).Map(w.Annotations).
		Str(w.ServiceAccount, w.Node, w.Network, w.Locality.String(), workloadName(w)).Sum()
}

func podKey(p *podPlan) config.Key {
	return config.Key{Kind: "Pod", Namespace: p.workload.Namespace, Name: p.name}
}

// startPods starts pods side by side, waits until they are ready and gives
// them their addresses in one step. It returns the pods that they replace. A
// pod that does not start is an error, after all others have started.
func (m *Mesh) startPods(ctx context.Context, plans []*podPlan) (replaced []*pod, err error) {
	if len(plans) == 0 {
		return nil, nil
	}
	slices.SortFunc(plans, func(a, b *podPlan) int { return strings.Compare(a.key(), b.key()) })
	m.options.Note(fmt.Sprintf("starting %d pods (%s)", len(plans), m.ground.interception()))
	started := make([]*pod, len(plans))
	failed := make([]error, len(plans))
	places := make([]*place, len(plans))
	for i, p := range plans {
		if p.proxy.wrong != "" {
			m.tellOnce(p.key() + ": " + p.proxy.wrong)
		}
		at, err := m.makePlace(p)
		var not notHere
		if errors.As(err, &not) {
			m.tellOnce(not.Error())
			continue
		}
		if err != nil {
			failed[i] = err
			continue
		}
		places[i] = at
		m.announce(p, at.addr)
	}
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, p := range plans {
		if places[i] == nil {
			continue
		}
		g.Go(func() error {
			started[i], failed[i] = m.startReady(ctx, p, places[i])
			return nil
		})
	}
	_ = g.Wait()
	m.mu.Lock()
	m.coming = nil
	for i, p := range started {
		if p == nil {
			continue
		}
		key := plans[i].key()
		if old := m.pods[key]; old != nil {
			replaced = append(replaced, old)
			m.stopping[old] = true
		}
		m.pods[key] = p
		if p.plan.fixed == "" && !p.plan.made {
			m.addresses[podKey(p.plan)] = []string{p.place.addr.String()}
		}
	}
	m.mu.Unlock()
	m.source.Refresh()
	return replaced, errors.Join(failed...)
}

// coming is a pod that is being started.
type coming struct {
	plan *podPlan
	addr netip.Addr
}

// announce makes a pod's address known to DNS before it is ready: a proxy
// looks a name up when it starts, and then not for a while.
func (m *Mesh) announce(p *podPlan, addr netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.coming = append(m.coming, coming{p, addr})
}

func (m *Mesh) makePlace(p *podPlan) (*place, error) {
	addr, err := m.addressFor(p)
	if err != nil {
		return nil, err
	}
	return m.ground.place(addr, p.role == sidecar)
}

// notHere is why a workload of the folder is left out.
type notHere string

// Error implements error.
func (n notHere) Error() string { return string(n) }

// addressFor is a new address, or the one that the folder gives.
func (m *Mesh) addressFor(p *podPlan) (netip.Addr, error) {
	switch {
	case p.key() == outsideKey:
		return m.outside, nil
	case p.fixed == "":
		return m.ground.address()
	}
	what := fmt.Sprintf("%s %s at %s", p.workload.Kind, p.key(), p.fixed)
	a, err := netip.ParseAddr(p.fixed)
	switch {
	case err != nil:
		return a, notHere(what + " is not run here: it has no IP address")
	case m.ground.interception() == config.NoneMode && !a.IsLoopback():
		return a, notHere(what + " is not run here: only mode netns can give it this address")
	case !a.Is4() || a.IsLoopback() != (m.ground.interception() == config.NoneMode):
		return a, notHere(what + " is not run here: want the IPv4 address of a machine")
	}
	return a, nil
}

// startReady starts one pod and waits until it is ready.
func (m *Mesh) startReady(ctx context.Context, p *podPlan, at *place) (*pod, error) {
	began := time.Now()
	if len(p.more) > 0 && m.ground.interception() == config.NoneMode {
		m.options.Note(fmt.Sprintf("endpoints at %v are not run here: only mode netns can give these addresses", p.more))
	}
	err := m.ground.more(at, p.more)
	if err != nil {
		at.close()
		return nil, err
	}
	started, err := m.around.startPod(p, at)
	if err != nil {
		at.close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		ok, err := started.ready(ctx)
		if err != nil {
			started.stop()
			return nil, err
		}
		if ok {
			m.options.Note(describe(started, time.Since(began)))
			return started, nil
		}
		if !wait(ctx, readyPoll) {
			log := started.proxy.log.last(5)
			started.stop()
			return nil, fmt.Errorf("Envoy of %s is not ready after %.0f s; it said last:\n  %s", //nolint:staticcheck // a name
				p.key(), time.Since(began).Seconds(), strings.Join(log, "\n  "))
		}
	}
}

func describe(p *pod, took time.Duration) string {
	what := "application"
	if p.plan.key() == outsideKey {
		what = "the world outside of the mesh (answers for hosts of ServiceEntries)"
	}
	switch p.plan.role {
	case sidecar:
		what = "application and sidecar"
	case gateway:
		what = "gateway"
		if p.plan.made {
			what = "gateway (made for a Gateway that selects no workload here)"
		}
	}
	ports := ""
	if len(p.plan.ports) > 0 {
		ports = strings.Trim(strings.ReplaceAll(fmt.Sprint(p.plan.ports), " ", ", "), "[]")
		ports = ", port " + ports
	}
	return fmt.Sprintf("  %s: %s at %s%s, ready after %.1f s", p.plan.key(), what, p.place.addr, ports, took.Seconds())
}

// retire stops a pod that others no longer find, once they have all heard.
func (m *Mesh) retire(ctx context.Context, p *pod) {
	synced, cancel := context.WithTimeout(ctx, goneTimeout)
	_ = m.waitSynced(synced)
	cancel()
	wait(ctx, lingers)
	p.stop()
	m.mu.Lock()
	delete(m.stopping, p)
	m.mu.Unlock()
	m.options.Note(fmt.Sprintf("  %s: stopped", p.plan.key()))
}

func (m *Mesh) podList() []*pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*pod, 0, len(m.pods))
	for _, p := range m.pods {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *pod) int { return strings.Compare(a.plan.key(), b.plan.key()) })
	return out
}
