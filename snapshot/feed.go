package snapshot

import (
	"slices"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// feed is what a stream knows about one kind: what the client asked for, what
// it was offered, and what it said about that. What the client has is held as
// pointers into shared layers and a few exceptions, never as a list of its
// own.
type feed struct {
	open     bool // a request of this type was seen
	wildcard bool
	legacy   bool   // wildcard since the first request named nothing
	only     *names // named explicitly
	run      uint64 // the request that only is of, see request.sum (SotW)

	// have is what the client was last offered, completely.
	have layers
	// has is what the client has, as its answers tell: of kinds whose responses
	// are complete.
	has contents
	// letGo: the next complete response does not hold what is gone.
	letGo bool
	// force are names to send whatever the client has: it has just asked for
	// them, or it forgets them with something else (warming).
	force *names
	// used: the client has something of the kind in use.
	used bool
	// owed: the client waits for a response, even an empty one.
	owed bool
	// held are resources that are no longer offered but that the client still
	// has, since something else may point to them.
	held []*translate.Resource
	// refused are versions that this client alone rejected.
	refused map[string]config.Hash
	// kept is what the client has in place of what it refused, as far as that is
	// known.
	kept map[string]*translate.Resource
	// retried: rejected listeners were sent again after a removal.
	retried bool
	// split are groups of names to send on their own, to find out which of
	// them the client rejects.
	split [][]string
	// splitOf is the complete response that they are groups of.
	splitOf *response

	queue []*response // composed, not sent yet
	sent  []*response // sent, not answered yet, oldest first

	nonce     uint64 // of the last response
	version   config.Hash
	acked     config.Hash // the last version acknowledged
	sentAt    time.Time
	ackedAt   time.Time
	lastError string
}

// response is one message to a client.
type response struct {
	kind kind
	// before is what the client was offered before, after with this response.
	before, after layers
	// gives are the contents of a complete response, and from is the view that
	// it was made of.
	gives   contents
	from    *view
	pieces  []*piece
	removed []string
	version config.Hash
	nonce   uint64
	order   uint64 // of all that the stream has prepared
	at      time.Time
}

// wants reports whether the client subscribes to a name.
func (f *feed) wants(name string) bool { return f.open && (f.wildcard || f.only.has(name)) }

// forget drops what the stream knows about names that are neither offered nor
// held.
func (f *feed) forget(now *layers) {
	for name := range f.refused {
		if now.get(name) == nil && !now.withholds(name) && !f.holds(name) {
			f.pardon(name)
		}
	}
}

// unsubscribed drops what the stream knows about names that the client no
// longer asks for.
func (f *feed) unsubscribed() {
	for name := range f.refused {
		if !f.wants(name) {
			f.pardon(name)
		}
	}
}

// took notes that the client has accepted items, but for the bad ones: what it
// refused of them was another version.
func (f *feed) took(items, bad []*translate.Resource) {
	if len(f.refused)+len(f.kept) == 0 {
		return
	}
	for _, item := range items {
		if old := f.kept[item.Name]; (old == nil || old.Version != item.Version) && !slices.Contains(bad, item) {
			f.pardon(item.Name)
		}
	}
}

func (f *feed) pardon(name string) {
	delete(f.refused, name)
	delete(f.kept, name)
}

func (f *feed) holds(name string) bool {
	return slices.ContainsFunc(f.held, func(r *translate.Resource) bool { return r.Name == name })
}

// settled reports whether the client has answered everything that was
// composed, and nothing new is to be sent of what now is offered.
func (f *feed) settled(now layers) bool {
	return !f.open || f.answered() && f.have == now && f.force.len() == 0 && !f.owed && !f.letGo && len(f.split) == 0
}

// answered reports whether nothing is on its way.
func (f *feed) answered() bool { return len(f.queue) == 0 && len(f.sent) == 0 }

// answer takes the response of that nonce off the list, nil if there is none.
// Earlier ones, which a client answers first, count as answered too.
func (f *feed) answer(nonce string) *response {
	n, ok := parseNonce(nonce)
	if !ok {
		return nil
	}
	for i, r := range f.sent {
		if r.nonce == n {
			f.sent = append([]*response(nil), f.sent[i+1:]...)
			return r
		}
	}
	return nil
}

// maxUnanswered bounds the responses whose answer a stream still takes.
const maxUnanswered = 1024

// await adds a response to those that the client has to answer.
func (f *feed) await(r *response) {
	if len(f.sent) >= maxUnanswered {
		f.sent = f.sent[1:]
	}
	f.sent = append(f.sent, r)
}
