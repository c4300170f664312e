package snapshot

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// request is a DiscoveryRequest or a DeltaDiscoveryRequest. Its strings point
// into one copy of the message: a proxy that reconnects sends thousands of
// names and versions, most of which are only compared. What outlives the
// request must be cloned.
type request struct {
	node  *core.Node
	url   string
	nonce string
	err   *rpc.Status
	// version is version_info (SotW).
	version string
	// names are resource_names (SotW) or resource_names_subscribe (delta).
	names       []string
	unsubscribe []string
	// run holds, encoded, what would be names: a long list that a SotW client
	// repeats with every acknowledgement, and which is mostly only compared
	// (spell). sum identifies it; 0 if it was not asked for.
	run string
	sum uint64
	// repeated: the run is the one that the client asked for last, and was left
	// out.
	repeated bool
	// repeats, if set, identifies the run of a request for a type, and reports
	// whether that was asked for last. It keeps nothing of the run.
	repeats func(url, run string) (sum uint64, repeated bool)
	// initial are initial_resource_versions, encoded (delta).
	initial []string
}

// Field numbers of the requests that decode reads, by protocol.
type requestFields struct {
	version, node, url, names, unsubscribe, initial, nonce, err protowire.Number
}

var requestNumbers = [...]requestFields{
	sotw:  {version: 1, node: 2, names: 3, url: 4, nonce: 5, err: 6},
	delta: {node: 1, url: 2, names: 3, unsubscribe: 4, initial: 5, nonce: 6, err: 7},
}

// sotwRequest and deltaRequest tell the codec which message to expect.
type (
	sotwRequest  struct{ request }
	deltaRequest struct{ request }
)

// manyNames is the length of a request in bytes from which its names are counted
// first: lists of thousands that grow leave several times their size behind.
const manyNames = 1 << 12

var errUTF8 = errors.New("a request holds text that is not UTF-8")

// decodeRequest reads a request. data is free afterwards.
func decodeRequest(p protocol, data mem.BufferSlice, r *request) error {
	f := &requestNumbers[p]
	*r = request{repeats: r.repeats}
	if p == sotw && data.Len() > manyNames {
		return r.readLong(f, data)
	}
	text := materialize(data)
	if len(text) > manyNames {
		names, initial := 0, 0
		_ = eachField(text, func(n protowire.Number, _ string) error {
			switch n {
			case f.names:
				names++
			case f.initial:
				initial++
			}
			return nil
		})
		r.names, r.initial = make([]string, 0, names), make([]string, 0, initial)
	}
	return r.read(f, text)
}

// texts are where long requests are put together.
var texts = sync.Pool{New: func() any { return new([]byte) }}

// readLong reads a request with a long run of names. Most repeat the run of the one
// before: it is then only looked at, so that a fleet's acknowledgements leave nothing
// for the collector.
func (r *request) readLong(f *requestFields, data mem.BufferSlice) error {
	buffer := texts.Get().(*[]byte)
	defer texts.Put(buffer)
	*buffer = (*buffer)[:0]
	for _, part := range data {
		*buffer = append(*buffer, part.ReadOnlyData()...)
	}
	text := unsafe.String(unsafe.SliceData(*buffer), len(*buffer)) // until the buffer is put back
	begin, end := runOf(text, f.names)
	var rest strings.Builder
	rest.Grow(len(text) - (end - begin))
	rest.WriteString(text[:begin])
	rest.WriteString(text[end:])
	if err := r.read(f, rest.String()); err != nil {
		return err
	}
	run := text[begin:end]
	if r.repeats != nil && run != "" && len(r.names) == 0 {
		if r.sum, r.repeated = r.repeats(r.url, run); r.repeated {
			return nil
		}
	}
	r.run = strings.Clone(run)
	return nil
}

// read takes the fields of a text into a request.
func (r *request) read(f *requestFields, text string) error {
	return eachField(text, func(n protowire.Number, v string) error {
		switch n {
		case 0: // never used; guards the numbers that a protocol does not have
			return nil
		case f.node:
			if r.node == nil {
				r.node = &core.Node{}
			}
			return proto.UnmarshalOptions{Merge: true}.Unmarshal([]byte(v), r.node)
		case f.err:
			if r.err == nil {
				r.err = &rpc.Status{}
			}
			return proto.UnmarshalOptions{Merge: true}.Unmarshal([]byte(v), r.err)
		case f.initial:
			r.initial = append(r.initial, v)
			return nil
		}
		switch n {
		case f.url:
			r.url = v
		case f.nonce:
			r.nonce = v
		case f.version:
			r.version = v
		case f.names:
			r.names = append(r.names, v)
		case f.unsubscribe:
			r.unsubscribe = append(r.unsubscribe, v)
		default:
			return nil
		}
		if !utf8.ValidString(v) {
			return errUTF8
		}
		return nil
	})
}

// spell lists the names of a run.
func (r *request) spell() error {
	if r.run == "" {
		return nil
	}
	run := r.run
	r.run = ""
	n := 0
	count := func(protowire.Number, string) error { n++; return nil }
	if err := eachField(run, count); err != nil {
		return err
	}
	after := r.names
	r.names = make([]string, 0, n+len(after))
	err := eachField(run, func(_ protowire.Number, v string) error {
		if !utf8.ValidString(v) {
			return errUTF8
		}
		r.names = append(r.names, v)
		return nil
	})
	r.names = append(r.names, after...)
	return err
}

// runOf finds the first run of fields of one number, empty if there is none or
// the text is malformed before its end.
func runOf(text string, number protowire.Number) (begin, end int) {
	for at := 0; at < len(text); {
		tag, n := varint(text[at:])
		if n <= 0 {
			return begin, end
		}
		of, wire := protowire.DecodeTag(tag)
		switch {
		case wire != protowire.BytesType && end == 0:
			skip := protowire.ConsumeFieldValue(of, wire, []byte(text[at+n:]))
			if skip < 0 {
				return 0, 0
			}
			at += n + skip
			continue
		case end > 0 && (of != number || wire != protowire.BytesType):
			return begin, end
		}
		size, m := varint(text[at+n:])
		if m <= 0 || size > uint64(len(text)-at-n-m) {
			return begin, end
		}
		next := at + n + m + int(size)
		if of == number {
			if end == 0 {
				begin = at
			}
			end = next
		}
		at = next
	}
	return begin, end
}

func materialize(data mem.BufferSlice) string {
	var b strings.Builder
	b.Grow(data.Len())
	for _, part := range data {
		b.Write(part.ReadOnlyData())
	}
	return b.String()
}

// known yields the names and versions of initial_resource_versions.
func (r *request) known() iter.Seq2[string, string] {
	return func(yield func(name, version string) bool) {
		for _, entry := range r.initial {
			var name, version string
			// Malformed entries count as far as they can be read: the client
			// is then sent more than it needs.
			_ = eachField(entry, func(n protowire.Number, v string) error {
				switch n {
				case 1:
					name = v
				case 2:
					version = v
				}
				return nil
			})
			if !yield(name, version) {
				return
			}
		}
	}
}

// eachField calls f for each length-delimited field of a message; others are
// skipped, as the requests have none that matter.
func eachField(text string, f func(protowire.Number, string) error) error {
	for len(text) > 0 {
		tag, n := varint(text)
		if n <= 0 {
			return errTruncated
		}
		text = text[n:]
		number, wire := protowire.DecodeTag(tag)
		if number < 1 {
			return fmt.Errorf("a request holds field number %d", number)
		}
		if wire != protowire.BytesType {
			// No field that matters; the requests have few others.
			if n = protowire.ConsumeFieldValue(number, wire, []byte(text)); n < 0 {
				return protowire.ParseError(n)
			}
			text = text[n:]
			continue
		}
		size, n := varint(text)
		if n <= 0 || size > uint64(len(text)-n) {
			return errTruncated
		}
		if err := f(number, text[n:n+int(size)]); err != nil {
			return err
		}
		text = text[n+int(size):]
	}
	return nil
}

var errTruncated = errors.New("a request is cut short")

// varint reads a number; n is 0 if there is none.
func varint(text string) (v uint64, n int) {
	for shift := uint(0); shift < 64 && n < len(text); shift += 7 {
		c := text[n]
		n++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}
