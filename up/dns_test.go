package up

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The resolver answers a client of its own making, over both transports.
func TestResolver(t *testing.T) {
	udp, tcp, err := listenBoth(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	many := make([]netip.Addr, 0, 30)
	for a := netip.MustParseAddr("10.0.0.1"); len(many) < cap(many); a = a.Next() {
		many = append(many, a)
	}
	r := &resolver{udp: udp, tcp: tcp, lookup: func(host string) ([]netip.Addr, bool) {
		switch host {
		case "shop.example.com":
			return many, true
		case "empty.example.com":
			return nil, true
		}
		return nil, false
	}}
	r.run()
	t.Cleanup(r.close)
	for network, addr := range map[string]string{"udp": udp.LocalAddr().String(), "tcp": tcp.Addr().String()} {
		client := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		got, err := client.LookupNetIP(ctx, "ip4", "SHOP.example.com.")
		slices.SortFunc(got, netip.Addr.Compare)
		for i := range got {
			got[i] = got[i].Unmap()
		}
		if err != nil || !slices.Equal(got, many) {
			t.Errorf("over %s shop.example.com is %v (%v), want %v", network, got, err, many)
		}
		for _, name := range []string{"empty.example.com.", "nobody.example.com."} {
			var not *net.DNSError
			if got, err := client.LookupNetIP(ctx, "ip", name); !errors.As(err, &not) || !not.IsNotFound {
				t.Errorf("over %s %s is %v (%v), want not found", network, name, got, err)
			}
		}
	}
	for _, junk := range [][]byte{nil, {1}, make([]byte, 12), make([]byte, 600)} {
		if out := r.answer(junk); out != nil {
			t.Errorf("answers %d bytes of junk with %x", len(junk), out)
		}
	}
}
