package up

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// resolver is the DNS server of a mesh, for the proxies' own look-ups: names
// of the mesh lead to pods, others to the world outside.
type resolver struct {
	udp    net.PacketConn
	tcp    net.Listener
	lookup func(host string) (addresses []netip.Addr, known bool)

	mu   sync.Mutex // guards open
	open map[net.Conn]bool
	done bool
	wait sync.WaitGroup
}

// answerTTL is short: the mesh changes.
const answerTTL = 1 // seconds

func (r *resolver) run() {
	r.open = map[net.Conn]bool{}
	r.wait.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := r.udp.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if out := r.answer(buf[:n]); out != nil {
				_, _ = r.udp.WriteTo(out, from)
			}
		}
	})
	r.wait.Go(func() {
		for {
			c, err := r.tcp.Accept()
			if err != nil {
				return
			}
			if r.track(c, true) {
				r.wait.Go(func() {
					defer r.track(c, false)
					r.stream(c)
				})
			}
		}
	})
}

func (r *resolver) close() {
	_, _ = r.udp.Close(), r.tcp.Close()
	r.mu.Lock()
	r.done = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wait.Wait()
}

// track notes a connection as open, or closes it.
func (r *resolver) track(c net.Conn, open bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if open && !r.done {
		r.open[c] = true
		return true
	}
	delete(r.open, c)
	_ = c.Close()
	return false
}

// stream answers on a TCP connection (RFC 1035 section 4.2.2).
func (r *resolver) stream(c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		query := make([]byte, size)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		out := r.answer(query)
		if out == nil {
			return
		}
		if _, err := c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(out)))); err != nil { //nolint:gosec // a message of ours is short
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// answer makes the response to a query; nil for what is none.
func (r *resolver) answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	addresses, known := r.lookup(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")))
	out := dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	if !known {
		out.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, out)
	b.EnableCompression()
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil
	}
	for _, a := range addresses {
		if q.Type != dnsmessage.TypeA || !a.Is4() {
			continue
		}
		rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: answerTTL}
		if b.AResource(rh, dnsmessage.AResource{A: a.As4()}) != nil {
			return nil
		}
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

// lookup is what a proxy is told about a name: the addresses of pods, since
// nothing forwards a Service's virtual address in this mesh. Without any the
// name may still be known.
func (m *Mesh) lookup(host string) (addresses []netip.Addr, known bool) {
	mesh := m.plane.Store.Mesh()
	if mesh == nil {
		return nil, false
	}
	for _, ns := range mesh.Services.Namespaces() {
		s, ok := mesh.Services.Get(ns, host)
		if !ok {
			continue
		}
		known = true
		if s.ExternalName != "" && !strings.EqualFold(s.ExternalName, host) {
			return m.lookup(strings.ToLower(s.ExternalName))
		}
		if len(s.Selector) > 0 {
			addresses = append(addresses, m.podsOf(s)...)
		} else if e, ok := mesh.Endpoints.Get(ns, host); ok {
			addresses = append(addresses, endpointAddresses(e)...)
		}
	}
	if len(addresses) > 0 || !strings.Contains(host, ".") || strings.HasSuffix(host, "."+mesh.Settings.DomainSuffix) {
		return addresses, known
	}
	if planOutside(mesh) == nil {
		return nil, known
	}
	return []netip.Addr{m.outside}, true // also before the pod is running: proxies ask once
}

func (m *Mesh) podsOf(s *config.Service) []netip.Addr {
	return m.podsWhere(func(p *podPlan) bool {
		return p.workload.Namespace == s.Namespace && config.Selects(s.Selector, p.workload.Labels)
	})
}

// podsWhere are the addresses of running and starting pods.
func (m *Mesh) podsWhere(wanted func(*podPlan) bool) []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.Addr
	for _, p := range m.pods {
		if wanted(p.plan) {
			out = append(out, p.place.addr)
		}
	}
	for _, c := range m.coming {
		if wanted(c.plan) {
			out = append(out, c.addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// endpointAddresses are the IP addresses of a service's healthy endpoints.
func endpointAddresses(e *config.Endpoints) []netip.Addr {
	var out []netip.Addr
	for _, eps := range e.ByPort {
		for i := range eps {
			if a, err := netip.ParseAddr(eps[i].Address); err == nil && eps[i].Health == config.Healthy {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
