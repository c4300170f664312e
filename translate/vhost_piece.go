package translate

import (
	"strconv"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// vhostPart is one virtual host of a route table, encoded as its field of
// RouteConfiguration. Immutable; shared by the tables that have it.
type vhostPart struct {
	name string
	domains
	// ruled: of a VirtualService, so that its short forms go before those of
	// services without one.
	ruled bool
	// clusters are what its routes lead to.
	clusters []string
	// sources are the objects that made it.
	sources []*config.Meta
	// longestBody is the size in bytes of its longest direct response.
	longestBody int
	bytes       []byte
	hash        config.Hash // of bytes
	domainsHash config.Hash
}

// vhostsField is RouteConfiguration.virtual_hosts.
const vhostsField = 2

// newVhostPart encodes a virtual host.
func newVhostPart(vh *route.VirtualHost, d domains, sources ...*config.Meta) (*vhostPart, error) {
	vh.Domains = d.names
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(vh)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(body)+protowire.SizeTag(vhostsField)+protowire.SizeVarint(uint64(len(body))))
	b = protowire.AppendTag(b, vhostsField, protowire.BytesType)
	b = protowire.AppendBytes(b, body)
	names := config.NewHasher().Uint(uint64(d.proper)).Str(d.names...)
	return &vhostPart{
		name: vh.Name, domains: d, sources: sources, bytes: b,
		hash: config.NewHasher().Bytes(b).Sum(), domainsHash: names.Sum(),
	}, nil
}

// vhostName is the name of a virtual host: host:port.
func vhostName(host string, port uint32) string {
	return host + ":" + strconv.FormatUint(uint64(port), 10)
}

// remember returns the value remembered under key, or makes and remembers it.
// The key must cover everything that make reads.
func remember[T any](t *Translator, key config.Hash, make func() T) T {
	if r, ok := t.memo.Get(key); ok {
		if v, ok := r.value.(T); ok {
			return v
		}
	}
	v := make()
	t.memo.Add(key, remembered{value: v})
	return v
}
