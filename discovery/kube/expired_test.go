package kube_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// expired is what a server says in a watch whose history it has dropped.
const expired = `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,` +
	`"message":"too old resource version"}}` + "\n"

// expiry ends watches of VirtualServices as a server does that has compacted
// its history.
type expiry struct {
	next   http.RoundTripper
	ended  atomic.Int32 // watches
	begun  atomic.Int32
	mu     sync.Mutex
	expire chan struct{} // closed when the present watches shall end
}

// RoundTrip implements http.RoundTripper.
func (e *expiry) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/virtualservices") || r.URL.Query().Get("watch") == "" {
		return resp, err
	}
	e.mu.Lock()
	at := e.expire
	e.mu.Unlock()
	e.begun.Add(1)
	out, in := io.Pipe()
	lines := make(chan string)
	body := resp.Body
	go func() {
		defer close(lines)
		for from := bufio.NewReader(body); ; {
			line, err := from.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	go func() {
		defer func() {
			_ = in.Close()
			_ = body.Close()
			for range lines { // until the other one has ended
			}
		}()
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					return
				}
				if _, err := io.WriteString(in, line); err != nil {
					return
				}
			case <-at:
				e.ended.Add(1)
				_, _ = io.WriteString(in, expired)
				return
			}
		}
	}()
	resp.Body = closing{out, body}
	return resp, nil
}

// closing is a body that closes what it comes from, too.
type closing struct {
	*io.PipeReader
	from io.Closer
}

func (c closing) Close() error {
	_ = c.PipeReader.Close()
	return c.from.Close()
}

// all ends every watch of now.
func (e *expiry) all() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.expire)
	e.expire = make(chan struct{})
}

// TestWatchesExpire ends watches with 410 while objects change: each change
// arrives, and what is there all the time is in every Mesh.
func TestWatchesExpire(t *testing.T) {
	s, c := cluster(t)
	apply(t, c, awayObjects)
	e := &expiry{expire: make(chan struct{})}
	cfg := rest.CopyConfig(s.Config())
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		e.next = next
		return e
	})
	w := watch(t, cfg)
	w.synced(t)
	object := func(host string) string {
		return fmt.Sprintf("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: NAME, namespace: away}, "+
			"spec: {hosts: [%s], http: [{route: [{destination: {host: a}}]}]}}", host)
	}
	for n := range 3 {
		changed, brief := strings.Replace(object(fmt.Sprint("h", n)), "NAME", "changes", 1), strings.Replace(object("brief"), "NAME", "brief", 1)
		both := func(is bool) func(m *config.Mesh) bool {
			return func(m *config.Mesh) bool {
				vs, ok := m.VirtualServices.Get("away", "changes")
				if !ok {
					t.Fatal("a Mesh without what was there all the time")
				}
				_, there := m.VirtualServices.Get("away", "brief")
				return vs.Spec.GetHosts()[0] == fmt.Sprint("h", n) && there == is
			}
		}
		var side sync.WaitGroup
		side.Go(e.all) // before, between or after these
		apply(t, c, brief)
		apply(t, c, changed)
		side.Wait()
		w.until(t, changed, both(true))
		e.all() // before what goes is told
		c.Delete(t, brief)
		w.until(t, "without "+brief, both(false))
	}
	if e.ended.Load() < 3 || e.begun.Load() <= e.ended.Load() {
		t.Errorf("%d watches began, %d of which expired", e.begun.Load(), e.ended.Load())
	}
}
