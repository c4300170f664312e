package up

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// needsRoot: making network namespaces takes privileges.
func needsRoot(t *testing.T) {
	t.Helper()
	ns, err := newNamespace()
	if err == nil {
		_ = ns.Close()
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs root: %v", err)
	}
	t.Skipf("needs root: %v", err)
}

// say listens at an address in a place and answers every connection with a
// word and a newline.
func say(t *testing.T, p *place, addr, word string) {
	t.Helper()
	var l net.Listener
	if err := p.within(func() (err error) { l, err = net.Listen("tcp", addr); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word)
			_ = c.Close()
		}
	}()
}

// hear connects from a place as a user and returns the word.
func hear(t *testing.T, p *place, uid int, to string) string {
	t.Helper()
	var word string
	err := p.within(func() error {
		if uid != 0 {
			if _, err := unix.SetfsuidRetUid(uid); err != nil {
				return err
			}
			defer func() { _, _ = unix.SetfsuidRetUid(0) }()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		word = string(b)
		return err
	})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case err != nil:
		t.Fatalf("%s as %d: %v", to, uid, err)
	}
	return word
}

func TestPodRedirection(t *testing.T) {
	needsRoot(t)
	g, err := newNamespaces()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	addr := func() netip.Addr {
		a, err := g.address()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	make := func(intercept bool) *place {
		p, err := g.place(addr(), intercept)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		return p
	}
	pod, plain := make(true), make(false)
	say(t, pod, "0.0.0.0:15001", "outbound")
	say(t, pod, "0.0.0.0:15006", "inbound")
	say(t, pod, "0.0.0.0:8080", "app")
	say(t, pod, "0.0.0.0:15021", "health")
	say(t, plain, "0.0.0.0:8080", "plain")

	own, other := pod.addr.String(), plain.addr.String()
	for _, c := range []struct {
		name string
		from *place
		uid  int
		to   string
		want string
	}{
		{"the application to a virtual address", pod, 0, "10.96.0.1:80", "outbound"},
		{"the application to another pod", pod, 0, other + ":8080", "outbound"},
		{"the application to the outside", pod, appUID, "192.0.2.1:443", "outbound"},
		{"the application to itself", pod, 0, own + ":8080", "app"},
		{"the application to localhost", pod, 0, "127.0.0.1:8080", "app"},
		{"the proxy to another pod", pod, agent.ProxyUID, other + ":8080", "plain"},
		{"the proxy to the application", pod, agent.ProxyUID, "127.0.0.1:8080", "app"},
		{"the proxy to its own pod's address", pod, agent.ProxyUID, own + ":8080", "inbound"},
		{"another pod to the pod", plain, 0, own + ":8080", "inbound"},
		{"another pod to a port that nobody listens on", plain, 0, own + ":9999", "inbound"},
		{"another pod to the sidecar's health port", plain, 0, own + ":15021", "health"},
		{"a pod without a sidecar to a virtual address", plain, 0, "10.96.0.1:80", "unreachable"},
	} {
		if got := hear(t, c.from, c.uid, c.to); got != c.want {
			t.Errorf("%s reached %q, want %q", c.name, got, c.want)
		}
	}
}

// The application answers from an address of its own where Envoy calls it
// from 127.0.0.6.
func TestProxyCallsItsApplicationByThePodsAddress(t *testing.T) {
	needsRoot(t)
	g, err := newNamespaces()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	a, err := g.address()
	if err != nil {
		t.Fatal(err)
	}
	pod, err := g.place(a, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.close)
	say(t, pod, "0.0.0.0:8080", "app")
	var word []byte
	err = pod.within(func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 6)}, Timeout: time.Second}
		c, err := d.Dial("tcp", netip.AddrPortFrom(a, 8080).String())
		if err != nil {
			return err
		}
		defer c.Close()
		word, err = io.ReadAll(c)
		return err
	})
	if err != nil || string(word) != "app" {
		t.Errorf("reached %q (%v), want app", word, err)
	}
}

// Rules are replaced, not added to, and exclusions come first.
func TestRedirectionIsReplacedAndExcludes(t *testing.T) {
	needsRoot(t)
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	ns, err := n.addPod(netip.MustParseAddr("10.244.0.2"), &agent.Redirect{OutboundPort: 15001, InboundPort: 15006})
	if err != nil {
		t.Fatal(err)
	}
	pod := &place{ns: &namespace{handle: ns}}
	t.Cleanup(pod.close)
	err = (&agent.Redirect{
		OutboundPort: 16001, InboundPort: 15006, ExcludeOutbound: []uint16{81},
		ExcludeRanges: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/17")},
	}).Apply(int(ns))
	if err != nil {
		t.Fatal(err)
	}
	say(t, pod, "0.0.0.0:15001", "old")
	say(t, pod, "0.0.0.0:16001", "new")
	for to, want := range map[string]string{
		"10.96.0.1:80": "new", "10.96.0.1:81": "unreachable",
		"10.7.127.1:80": "unreachable", "10.7.128.1:80": "new",
	} {
		if got := hear(t, pod, 0, to); got != want {
			t.Errorf("%s reached %q, want %q", to, got, want)
		}
	}
}
