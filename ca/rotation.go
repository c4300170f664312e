package ca

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Phase is where the rotation of a self-signed root is.
type Phase string

// The phases, in their order. In Distributing and Retiring both roots are
// trusted.
const (
	// Steady: one root.
	Steady Phase = "steady"
	// Distributing: the next root is made and trusted, and signs nothing yet.
	Distributing Phase = "distributing"
	// Retiring: the next root signs; certificates of the previous one are still
	// about.
	Retiring Phase = "retiring"
)

// selfSigned is the self-signed root and its rotation. Immutable.
type selfSigned struct {
	active, next *Root // next is nil but in Distributing
	// previous are what was active before; none but in Retiring.
	previous []*x509.Certificate
	since    time.Time // when the phase began
}

func (s *selfSigned) phase() Phase {
	switch {
	case s.next != nil:
		return Distributing
	case len(s.previous) > 0:
		return Retiring
	}
	return Steady
}

// root is what to sign with and all that is trusted.
func (s *selfSigned) root() *Root {
	roots := unique(s.active.roots, s.previous)
	if s.next != nil {
		roots = unique(roots, s.next.roots)
	}
	return &Root{chain: s.active.chain, key: s.active.key, roots: roots}
}

// Rotation is what a person asks of the leader, by the annotation
// pilotfish.io/ca-rotation of Secret istio-ca-secret.
type Rotation string

// What can be asked for.
const (
	// Begin makes the next root and distributes it; the rest follows by itself.
	Begin Rotation = "begin"
	// Hurry goes on to the next phase at once, whatever proxies have.
	Hurry Rotation = "hurry"
)

// pace is how long the phases take.
type pace struct {
	// distribute is how long it takes until every proxy trusts a new root: those
	// that learn of roots with their certificates renew them within its life.
	distribute time.Duration
	// retire is how long a certificate of the previous root may live.
	retire time.Duration
}

// renewBefore is the part of its life that a self-signed root has left when it
// is rotated unasked.
const renewBefore = 5 // a fifth

// step returns the state that follows s at the time now, nil if it stays, and
// when to look again. asked is what a person asks for; what cannot be done is an
// error, and s stays.
func (s *selfSigned) step(now time.Time, asked Rotation, p pace, newRoot func() (*Root, error)) (*selfSigned, time.Time, error) {
	var due time.Time
	switch s.phase() {
	case Steady:
		c := s.active.chain[0]
		due = c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / renewBefore)
		if asked == Hurry {
			return nil, due, fmt.Errorf("no rotation is under way that could be hurried")
		}
	case Distributing:
		due = s.since.Add(p.distribute)
	case Retiring:
		due = s.since.Add(p.retire)
	}
	switch {
	case asked != "" && asked != Begin && asked != Hurry:
		return nil, due, fmt.Errorf("%q is no rotation: want %s or %s", asked, Begin, Hurry)
	case asked == Begin && s.phase() != Steady:
		return nil, due, fmt.Errorf("a rotation is under way (%s): it has to end before another begins", s.phase())
	case asked == "" && now.Before(due):
		return nil, due, nil
	}
	out := &selfSigned{active: s.active, since: now}
	switch s.phase() {
	case Steady:
		r, err := newRoot()
		if err != nil {
			return nil, due, err
		}
		out.next = r
	case Distributing:
		out.active, out.previous = s.next, unique(s.active.chain[:1], s.previous)
	}
	return out, now, nil
}
