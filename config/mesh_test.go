package config

import "testing"

// TestOnlyEndpointsDiffer: endpoints that proxies resolve themselves count as
// configuration, since clusters carry them.
func TestOnlyEndpointsDiffer(t *testing.T) {
	for resolution, want := range map[Resolution]bool{
		ResolveEDS: true, ResolvePassthrough: true, ResolveDNS: false, ResolveDNSRoundRobin: false,
	} {
		services := func(m *Mesh) *Index[*Service] { return &m.Services }
		endpoints := func(m *Mesh) *Index[*Endpoints] { return &m.Endpoints }
		s := &Service{Meta: Meta{Key: Key{Namespace: "ns", Name: "a"}}, Hostname: "a.example.com", Resolution: resolution}
		b := NewBuilder(nil)
		Put(b, services, s)
		Put(b, endpoints, &Endpoints{ID: s.ID(), Hash: 1})
		first := b.Mesh()
		b = NewBuilder(first)
		Put(b, endpoints, &Endpoints{ID: s.ID(), Hash: 2})
		second := b.Mesh()
		b = NewBuilder(second)
		Remove(b, endpoints, "ns", s.Hostname)
		third := b.Mesh()
		if got := second.OnlyEndpointsDiffer(first); got != want {
			t.Errorf("resolution %d, changed: %v, want %v", resolution, got, want)
		}
		if got := third.OnlyEndpointsDiffer(second); got != want {
			t.Errorf("resolution %d, removed: %v, want %v", resolution, got, want)
		}
	}
}

// TestPeersAreConfiguration: clients check whom they connect to, so a change
// of the accounts behind a service, or of whether all of a port take mesh TLS,
// is a change of their clusters; another endpoint of the same kind is not.
func TestPeersAreConfiguration(t *testing.T) {
	endpoints := func(m *Mesh) *Index[*Endpoints] { return &m.Endpoints }
	with := func(hash Hash, list ...Endpoint) *Endpoints {
		return NewEndpoints(ServiceID{Hostname: "a.example.com", Namespace: "ns"}, map[string][]Endpoint{"http": list}, hash)
	}
	a := Endpoint{Address: "10.0.0.1", Namespace: "ns", ServiceAccount: "a", MTLS: true}
	more, other, plain := a, a, a
	more.Address, other.ServiceAccount, plain.MTLS = "10.0.0.2", "b", false
	b := NewBuilder(nil)
	Put(b, endpoints, with(1, a))
	before := b.Mesh()
	for name, c := range map[string]struct {
		next *Endpoints
		same bool
	}{
		"one more": {with(2, a, more), true}, "another account": {with(3, a, other), false},
		"one without mesh TLS": {with(4, a, plain), false}, "none": {with(5), false},
	} {
		b := NewBuilder(before)
		Put(b, endpoints, c.next)
		if got := b.Mesh().OnlyEndpointsDiffer(before); got != c.same {
			t.Errorf("%s: only endpoints differ %v, want %v", name, got, c.same)
		}
	}
}
