package snapshot

import (
	"sync"
	"sync/atomic"
	"weak"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// batch is one step that streams take, with its encoding. Everything but the
// encodings is immutable.
type batch struct {
	kind kind
	difference
	size int // of the resources' bodies, in bytes

	mu sync.Mutex
	// kept are the encodings of small batches. Large ones, which proxies need
	// when they connect, live as long as some stream is sending them.
	kept    [2][]*piece
	passing [2]weak.Pointer[encoded]
}

type encoded struct{ pieces []*piece }

// piece is a run of a batch's resources in wire form.
type piece struct {
	items []*translate.Resource
	wire  []byte
	// accepted is set by the first stream whose client acknowledged it.
	accepted atomic.Bool
	whole    *encoded // keeps the other pieces alive while one is in use
}

// keepBelow is the size up to which a batch keeps its encoding.
const keepBelow = 4 << 10

func newBatch(k kind, d difference) *batch {
	b := &batch{kind: k, difference: d}
	for _, r := range d.send {
		b.size += r.Size()
	}
	return b
}

// empty reports whether there is nothing to send or take away.
func (b *batch) empty() bool { return b == nil || len(b.send) == 0 && len(b.gone) == 0 }

// pieces returns the batch's resources encoded for a protocol, in runs of at
// most limit bytes (a single resource may be longer); all in one for SotW.
func (b *batch) pieces(p protocol, limit int) []*piece {
	if b == nil || len(b.send) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[p] != nil {
		return b.kept[p]
	}
	if e := b.passing[p].Value(); e != nil {
		return e.pieces
	}
	if p == sotw {
		limit = 0
	}
	e := &encoded{}
	e.pieces = encodePieces(b.kind, b.send, p, limit, e)
	if b.size <= keepBelow {
		b.kept[p] = e.pieces
	} else {
		b.passing[p] = weak.Make(e)
	}
	return e.pieces
}

func encodePieces(k kind, send []*translate.Resource, p protocol, limit int, whole *encoded) []*piece {
	var out []*piece
	for len(send) > 0 {
		n, size := 0, 0
		for n < len(send) {
			next := send[n].Size() + len(send[n].Name) + len(k.url()) + 48
			if n > 0 && limit > 0 && size+next > limit {
				break
			}
			size += next
			n++
		}
		pc := &piece{items: send[:n:n], wire: make([]byte, 0, size), whole: whole}
		for _, r := range pc.items {
			pc.wire = p.appendResource(pc.wire, k.url(), r)
		}
		out = append(out, pc)
		send = send[n:]
	}
	return out
}
