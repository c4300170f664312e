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
