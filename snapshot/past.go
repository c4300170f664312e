package snapshot

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// rememberedVersions bounds the versions that a Cache knows the content of.
const rememberedVersions = 1024

// past is what a version of a complete response (SotW) stood for. A client
// that reconnects says which version it has, and its first response on the new
// stream must be complete too: what it has and still needs would be deleted,
// were it not known.
type past struct {
	have layers
	held []*translate.Resource
}

type pastKey struct {
	kind    kind
	version config.Hash
}

// history remembers versions by content, so that it does not matter on which
// stream or from which replica a client has one.
type history struct{ versions *lru.Cache[pastKey, past] }

func newHistory() history {
	versions, err := lru.New[pastKey, past](rememberedVersions)
	if err != nil {
		panic(err) // only for a size below one
	}
	return history{versions}
}

// offer remembers what a view offers.
func (h history) offer(v *view) {
	for k := range kinds {
		if k.whole() {
			h.versions.Add(pastKey{k, v.layers[k].version()}, past{have: v.layers[k]})
		}
	}
}

// sent remembers what a stream is sent: what is offered, but for what it
// refused, and what is held. It returns the version.
func (h history) sent(k kind, f *feed) config.Hash {
	p := past{f.have, f.held}
	if len(f.refused) > 0 {
		p = past{layers{f.with(k, nil)}, f.bodies()}
	}
	version := versionWith(&p.have, p.held)
	h.versions.Add(pastKey{k, version}, p)
	return version
}

// of returns what a client has that names a version.
func (h history) of(k kind, version string) (past, bool) {
	v, ok := parseVersion(version)
	if !ok || !k.whole() {
		return past{}, false
	}
	return h.versions.Get(pastKey{k, v})
}

// versionWith identifies a complete response of layers and what is held.
func versionWith(now *layers, held []*translate.Resource) config.Hash {
	if len(held) == 0 {
		return now.version()
	}
	h := config.NewHasher().Hash(now.version())
	for _, r := range held {
		h.Str(r.Name).Hash(r.Version)
	}
	return h.Sum()
}
