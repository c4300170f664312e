package snapshot

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// rememberedVersions bounds the versions that a Cache knows the content of.
const rememberedVersions = 1024

// rememberedOffers bounds the endpoints that are remembered of one proxy, which
// is cut off again and again before it answers.
const rememberedOffers = 8

type pastKey struct {
	kind    kind
	version config.Hash
}

// history remembers what the versions of complete responses (SotW) stood for. A
// client that reconnects says which version it has, and its first response on
// the new stream must be complete too: what it has and still needs would be
// deleted, were it not known. Versions are by content, so that it does not
// matter on which stream or from which replica a client has one.
type history struct {
	versions *lru.Cache[pastKey, contents]
	// left are proxies that may have something else than the version says that
	// they acknowledged last.
	left *lru.Cache[leftKey, left]
}

type leftKey struct {
	kind  kind
	proxy string
}

type left struct {
	acked config.Hash
	has   contents
	// endpoints are those that were offered while this was in doubt, the latest
	// first: clusters that are gone since, and that the client takes up again,
	// are not ready for use without.
	endpoints []layers
}

func newHistory() history {
	versions, err := lru.New[pastKey, contents](rememberedVersions)
	if err != nil {
		panic(err) // only for a size below one
	}
	rejecting, err := lru.New[leftKey, left](rememberedVersions)
	if err != nil {
		panic(err)
	}
	return history{versions, rejecting}
}

// offer remembers what a view offers.
func (h history) offer(v *view) {
	for k := range kinds {
		if k.whole() {
			h.versions.Add(pastKey{k, v.layers[k].version()}, contents{layers: v.layers[k]})
		}
	}
}

// sent remembers what a stream is sent, and returns its version.
func (h history) sent(k kind, gives contents) config.Hash {
	version := gives.version()
	h.versions.Add(pastKey{k, version}, gives)
	return version
}

// leave remembers what a client has, should its stream end now.
func (h history) leave(proxy string, k kind, f *feed, endpoints []layers) {
	if key := (leftKey{k, proxy}); len(f.sent) > 0 || f.has.version() != f.acked {
		h.left.Add(key, left{f.acked, f.has, endpoints})
	} else {
		h.left.Remove(key)
	}
}

// of returns what a client has that names a version: nothing if that is not
// known here.
func (h history) of(k kind, proxy, version string) left {
	v, ok := parseVersion(version)
	if !ok {
		return left{}
	}
	if l, ok := h.left.Get(leftKey{k, proxy}); ok && l.acked == v {
		return l
	}
	has, _ := h.versions.Get(pastKey{k, v})
	return left{acked: v, has: has}
}
