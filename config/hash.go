package config

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"
)

// Hash identifies content: two values with an equal Hash are taken to be
// equal. It does not depend on the process, so two replicas agree on it.
type Hash uint64

// String is the 16-digit hexadecimal form, used as an xDS version.
func (h Hash) String() string { return fmt.Sprintf("%016x", uint64(h)) }

// Hasher accumulates the parts of a composite identity. Every write is
// delimited, so ("ab","c") and ("a","bc") differ. The zero value is not
// usable; call NewHasher.
type Hasher struct{ d *xxhash.Digest }

// NewHasher returns an empty Hasher.
func NewHasher() Hasher { return Hasher{xxhash.New()} }

// Reset makes the Hasher empty again: a loop over thousands of small identities
// needs one.
func (h Hasher) Reset() Hasher {
	h.d.Reset()
	return h
}

// Str adds strings.
func (h Hasher) Str(parts ...string) Hasher {
	for _, p := range parts {
		h.Uint(uint64(len(p)))
		_, _ = h.d.WriteString(p)
	}
	return h
}

// Uint adds one number.
func (h Hasher) Uint(v uint64) Hasher {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	_, _ = h.d.Write(b[:])
	return h
}

// Bool adds one truth value.
func (h Hasher) Bool(v bool) Hasher {
	if v {
		return h.Uint(1)
	}
	return h.Uint(0)
}

// Hash adds the identities of other values.
func (h Hasher) Hash(parts ...Hash) Hasher {
	for _, p := range parts {
		h.Uint(uint64(p))
	}
	return h
}

// Map adds a string map, independent of its iteration order.
func (h Hasher) Map(m map[string]string) Hasher {
	h.Uint(uint64(len(m)))
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		h.Str(k, m[k])
	}
	return h
}

// Bytes adds a byte string.
func (h Hasher) Bytes(b []byte) Hasher {
	h.Uint(uint64(len(b)))
	_, _ = h.d.Write(b)
	return h
}

// Proto adds a message in its deterministic encoding.
func (h Hasher) Proto(m proto.Message) Hasher {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only messages with invalid UTF-8 or unset required fields fail;
		// their text still tells them apart.
		return h.Str(err.Error(), fmt.Sprint(m))
	}
	h.Uint(uint64(len(b)))
	_, _ = h.d.Write(b)
	return h
}

// Sum is the identity of everything added so far.
func (h Hasher) Sum() Hash { return Hash(h.d.Sum64()) }
