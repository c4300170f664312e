package snapshot

import (
	"strconv"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that Codec extends
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// protocol is one of the two transport protocol variants of xDS.
type protocol uint8

const (
	sotw protocol = iota
	delta
)

// String is the name that metrics and debug pages show.
func (p protocol) String() string {
	if p == delta {
		return "delta"
	}
	return "sotw"
}

// Field numbers of envoy.service.discovery.v3 and google.protobuf.Any.
const (
	responseVersion   = 1 // DiscoveryResponse.version_info, DeltaDiscoveryResponse.system_version_info
	responseResources = 2
	responseTypeURL   = 4
	responseNonce     = 5
	deltaRemoved      = 6 // DeltaDiscoveryResponse.removed_resources

	controlPlaneID = 1 // core.v3.ControlPlane.identifier

	resourceVersion = 1 // Resource
	resourceBody    = 2
	resourceName    = 3

	anyTypeURL = 1
	anyValue   = 2
)

// appendResource adds a resource as one element of a response's resources.
func (p protocol) appendResource(b []byte, url string, r *translate.Resource) []byte {
	size := r.Size()
	anySize := stringSize(anyTypeURL, len(url)) + stringSize(anyValue, size)
	b = protowire.AppendTag(b, responseResources, protowire.BytesType)
	if p == delta {
		const versionLen = 16
		b = protowire.AppendVarint(b, uint64(stringSize(resourceVersion, versionLen)+
			stringSize(resourceBody, anySize)+stringSize(resourceName, len(r.Name))))
		b = appendString(b, resourceName, r.Name)
		b = protowire.AppendTag(b, resourceVersion, protowire.BytesType)
		b = protowire.AppendVarint(b, versionLen)
		b = appendHash(b, r.Version)
		b = protowire.AppendTag(b, resourceBody, protowire.BytesType)
	}
	b = protowire.AppendVarint(b, uint64(anySize))
	b = appendString(b, anyTypeURL, url)
	b = protowire.AppendTag(b, anyValue, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for _, part := range r.Body {
		b = append(b, part...)
	}
	return b
}

func stringSize(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// appendHash adds the 16 digits of Hash.String without making the string.
func appendHash(b []byte, h config.Hash) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[h>>shift&15])
	}
	return b
}

// appendFrame adds what a response has besides its resources.
func (p protocol) appendFrame(b []byte, url string, version config.Hash, nonce uint64, removed []string) []byte {
	b = protowire.AppendTag(b, responseVersion, protowire.BytesType)
	b = protowire.AppendVarint(b, 16)
	b = appendHash(b, version)
	b = appendString(b, responseTypeURL, url)
	b = protowire.AppendTag(b, responseNonce, protowire.BytesType)
	var digits [20]byte
	b = protowire.AppendBytes(b, strconv.AppendUint(digits[:0], nonce, 10))
	if p == delta {
		for _, name := range removed {
			b = appendString(b, deltaRemoved, name)
		}
	}
	return b
}

// responseControlPlane is the field of a response that says who answers.
var responseControlPlane = [...]protowire.Number{sotw: 6, delta: 7}

// appendControlPlane adds the identifier of who answers, unless it is empty.
func (p protocol) appendControlPlane(b []byte, identifier string) []byte {
	if identifier == "" {
		return b
	}
	b = protowire.AppendTag(b, responseControlPlane[p], protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(stringSize(controlPlaneID, len(identifier))))
	return appendString(b, controlPlaneID, identifier)
}

// message is an encoded response. Its buffers are shared between streams.
type message struct {
	kind    kind
	buffers mem.BufferSlice
	// mayBlock: the client may not have read what was sent before.
	mayBlock bool
}

func newMessage(k kind, pieces []*piece, frame []byte) *message {
	buffers := make(mem.BufferSlice, 0, len(pieces)+1)
	for _, p := range pieces {
		buffers = append(buffers, mem.SliceBuffer(p.wire))
	}
	return &message{kind: k, buffers: append(buffers, mem.SliceBuffer(frame))}
}

// size is the length of the response in bytes.
func (m *message) size() int { return m.buffers.Len() }

// Codec is the protobuf codec of gRPC, except that it passes on the responses
// that a Server has already encoded, and reads requests without making a
// thousand strings of them. Options.GRPC installs it.
type Codec struct{}

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*message); ok {
		return m.buffers, nil
	}
	return standardCodec().Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch r := v.(type) {
	case *deltaRequest:
		return decodeRequest(delta, data, &r.request)
	case *sotwRequest:
		return decodeRequest(sotw, data, &r.request)
	}
	return standardCodec().Unmarshal(data, v)
}

// Name implements encoding.CodecV2.
func (Codec) Name() string { return "proto" }

func standardCodec() encoding.CodecV2 { return encoding.GetCodecV2("proto") }
