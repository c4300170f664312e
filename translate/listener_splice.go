package translate

import (
	"slices"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// fewChains is how many filter chains a listener has that is encoded in one
// piece.
const fewChains = 16

// chainPiece is one filter chain, encoded as its field of Listener. Immutable;
// shared by the listeners that have it.
type chainPiece struct {
	bytes []byte
	hash  config.Hash // of bytes
	refs  refCollector
	err   error
}

// chainsField is Listener.filter_chains.
const chainsField = 3

// spliced makes a listener of filter chains that are remembered one by one: a
// gateway has one for each host with a certificate of its own, of which a change
// concerns one. It is nil if a chain cannot be encoded.
func (e *listenerEnv) spliced(b *build, d *draft) *Resource {
	bare := *d
	bare.chains, bare.source = nil, nil
	base := bare.key(e.key)
	pieces := make([]*chainPiece, len(d.chains))
	key := config.NewHasher().Str("spliced listener").Hash(d.headKey(e.key))
	h := config.NewHasher()
	list := newSuccession[*chainPiece](b.t, config.NewHasher().Str("filter chains").Hash(base).Sum(), len(d.chains))
	for i, c := range d.chains {
		h.Reset().Str("filter chain").Hash(base)
		c.addTo(h)
		sum := h.Sum()
		key.Hash(sum)
		pieces[i] = list.next(sum, func() *chainPiece {
			t := &listenerTexts{b: b, env: *e}
			return newChainPiece(t, t.filterChain(d, c))
		})
	}
	list.end()
	type made struct {
		resource *Resource
		err      error
	}
	m := remember(b.t, key.Sum(), func() made {
		r, err := e.join(b, d, pieces)
		return made{r, err}
	})
	if m.err != nil {
		b.problems = append(b.problems, unencodable(d.socket.listenerName(), m.err, d.sources()))
	}
	return m.resource
}

func newChainPiece(t *listenerTexts, fc *listener.FilterChain) *chainPiece {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(fc)
	if err != nil {
		return &chainPiece{err: err}
	}
	piece := make([]byte, 0, len(body)+protowire.SizeTag(chainsField)+protowire.SizeVarint(uint64(len(body))))
	piece = protowire.AppendTag(piece, chainsField, protowire.BytesType)
	piece = protowire.AppendBytes(piece, body)
	return &chainPiece{bytes: piece, hash: config.NewHasher().Bytes(piece).Sum(), refs: t.refs}
}

// join puts a listener's pieces behind all else that it says: fields of a
// message may come in any order.
func (e *listenerEnv) join(b *build, d *draft, pieces []*chainPiece) (*Resource, error) {
	t := &listenerTexts{b: b, env: *e}
	head, err := proto.MarshalOptions{Deterministic: true}.Marshal(t.listener(d, false))
	if err != nil {
		return nil, err
	}
	r := &Resource{Name: d.socket.listenerName(), Body: make([][]byte, 0, len(pieces)+1), Sources: d.sources()}
	r.Body = append(r.Body, head)
	h := config.NewHasher().Str("listener").Bytes(head)
	t.refs.grow(len(pieces))
	for _, p := range pieces {
		if p.err != nil {
			return nil, p.err
		}
		r.Body = append(r.Body, p.bytes)
		h.Hash(p.hash)
		t.refs.add(&p.refs)
	}
	r.Version, r.Refs = h.Sum(), t.refs.refs()
	return r, nil
}

// grow makes room for what most filter chains of a gateway point to.
func (r *refCollector) grow(n int) {
	r.routes, r.secrets = slices.Grow(r.routes, n), slices.Grow(r.secrets, n)
}

func (r *refCollector) add(o *refCollector) {
	r.clusters = append(r.clusters, o.clusters...)
	r.routes = append(r.routes, o.routes...)
	r.secrets = append(r.secrets, o.secrets...)
}
