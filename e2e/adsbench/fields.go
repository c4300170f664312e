package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3" // known inside Any
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"        // known inside Any
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pilotfish-mesh/pilotfish/agent/wire"
)

// fieldSizes adds up, by the path of protobuf fields, what resources are made
// of on the wire, so that the bytes of a first connect have names. A path's
// size is that of all that is below it, with tags and lengths.
type fieldSizes struct {
	mu    sync.Mutex
	bytes map[string]int
	count map[string]int
}

func (s *fieldSizes) add(r *response) {
	t, err := protoregistry.GlobalTypes.FindMessageByURL(r.typeURL)
	if err != nil {
		return
	}
	d := t.Descriptor()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range r.resources {
		s.note(string(d.Name()), len(one.body))
		s.walk(string(d.Name()), d, one.body)
	}
}

func (s *fieldSizes) note(path string, n int) {
	if s.bytes == nil {
		s.bytes, s.count = map[string]int{}, map[string]int{}
	}
	s.bytes[path] += n
	s.count[path]++
}

func (s *fieldSizes) walk(path string, d protoreflect.MessageDescriptor, b []byte) {
	for len(b) > 0 {
		number, kind, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return
		}
		value := protowire.ConsumeFieldValue(number, kind, b[tag:])
		f := d.Fields().ByNumber(number)
		if value < 0 || f == nil {
			return
		}
		at := path + "." + string(f.Name())
		s.note(at, tag+value)
		if f.Kind() == protoreflect.MessageKind {
			if body, n := protowire.ConsumeBytes(b[tag:]); n > 0 {
				s.message(at, f.Message(), body)
			}
		}
		b = b[tag+value:]
	}
}

// message looks below a message, and through the Any that wraps one.
func (s *fieldSizes) message(path string, d protoreflect.MessageDescriptor, body []byte) {
	s.walk(path, d, body)
	if d.FullName() != "google.protobuf.Any" {
		return
	}
	var url string
	_ = wire.Fields(body, func(n protowire.Number, v []byte) error {
		if n == 1 {
			url = string(v)
		}
		return nil
	})
	if t, err := protoregistry.GlobalTypes.FindMessageByURL(url); err == nil {
		inner := t.Descriptor()
		s.walk(path+"<"+string(inner.Name())+">", inner, anyValue(body))
	}
}

// report lists the paths that have at least one part in a thousand of their
// type's bytes.
func (s *fieldSizes) report() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := slices.SortedFunc(maps.Keys(s.bytes), func(a, b string) int {
		return cmp.Or(strings.Compare(root(a), root(b)), cmp.Compare(s.bytes[b], s.bytes[a]), strings.Compare(a, b))
	})
	var b strings.Builder
	for _, p := range paths {
		if whole := s.bytes[root(p)]; s.bytes[p]*1000 >= whole {
			fmt.Fprintf(&b, "%9d %5.1f %% %7d × %s\n", s.bytes[p], 100*float64(s.bytes[p])/float64(whole), s.count[p], p)
		}
	}
	return b.String()
}

func root(path string) string {
	r, _, _ := strings.Cut(path, ".")
	return r
}
