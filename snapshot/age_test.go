package snapshot_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// TestConnectionsAge holds that a client is asked to connect anew after
// Options.ConnectionAge, and served as before when it does.
func TestConnectionsAge(t *testing.T) {
	bothWith(t, small, snapshot.Options{ConnectionAge: 200 * time.Millisecond, ConnectionGrace: time.Millisecond}, func(t *testing.T, s *served, c *client) {
		c.subscribe(cds)
		c.take("cds +a +b")
		if err := c.ended(); err == nil || status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("an old connection: %v", err)
		}
		again := s.client("one", c.isSotW)
		again.subscribe(cds)
		again.take("cds +a +b")
	})
}

// TestConnectionsAgeWithJitter holds that connections made together do not all
// come back together, to one replica: their ages differ, by up to a tenth.
func TestConnectionsAgeWithJitter(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{ConnectionAge: time.Second, ConnectionGrace: time.Millisecond})
	var ages [16]time.Duration
	var wg sync.WaitGroup
	for i := range ages {
		c := s.delta(fmt.Sprint("p", i))
		c.subscribe(cds)
		c.take("cds +a +b") // it is connected
		since := time.Now()
		wg.Go(func() {
			select {
			case err := <-c.err:
				t.Log(err)
				ages[i] = time.Since(since)
			case <-time.After(patience):
				t.Error("an old connection has not ended")
			}
		})
	}
	wg.Wait()
	if d := slices.Max(ages[:]) - slices.Min(ages[:]); d < 20*time.Millisecond {
		t.Errorf("16 connections all ended within %v of each other's age", d)
	}
}

// TestDeadConnectionsEnd holds that a peer which answers nothing, not even
// keepalive's pings, loses its connection and its place among the connections.
func TestDeadConnectionsEnd(t *testing.T) {
	w := newWorld(t)
	w.edit(small)
	s := serve(t, w, snapshot.Options{Keepalive: time.Millisecond, Connections: 1}) // gRPC takes no less than a second
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// The preface of HTTP/2 and empty settings, then silence.
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
	c := s.delta("one") // in its place
	c.subscribe(cds)
	c.take("cds +a +b")
}
