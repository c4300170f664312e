package serve

import (
	"slices"
	"strings"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// hidden are the secrets of this process's environment that went into headers
// of what proxies are sent (config.Environment). They stay hidden also after the
// configuration has ceased to name them, since a proxy may still have them.
type hidden struct {
	mu     sync.RWMutex
	values []string // as in resources, the longest first
}

const redactedText = "[redacted]"

// add hides what is in an Environment, too.
func (h *hidden) add(e *config.Environment) {
	values := e.Values()
	if len(values) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.values) // readers may hold the old one
	for _, v := range values {
		// Envoy's formats double percent signs.
		all = append(all, v, strings.ReplaceAll(v, "%", "%%"))
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	h.values = slices.Compact(all)
}

func (h *hidden) all() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.values
}

// text is a text that others wrote, such as Envoy about what it rejects, with
// nothing of it that is secret.
func (h *hidden) text(s string) string {
	for _, v := range h.all() {
		s = strings.ReplaceAll(s, v, redactedText)
		if escaped := escapedText(v); escaped != v {
			s = strings.ReplaceAll(s, escaped, redactedText)
		}
	}
	return s
}

// escapedText is how protobuf's text format writes a string.
func escapedText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`, "\t", `\t`).Replace(s)
}

// problems are Problems with texts that may be shown.
func (h *hidden) problems(all []config.Problem) {
	if len(h.all()) == 0 {
		return
	}
	for i := range all {
		all[i].Message = h.text(all[i].Message)
	}
}

// resource is an encoded Envoy resource without the secrets in it. The bytes
// are the same where there are none.
func (h *hidden) resource(body *anypb.Any) (*anypb.Any, error) {
	values := h.all()
	if !slices.ContainsFunc(values, func(v string) bool { return strings.Contains(string(body.GetValue()), v) }) {
		return body, nil
	}
	m, err := body.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	if err := hideHeaders(m.ProtoReflect(), values); err != nil {
		return nil, err
	}
	return anypb.New(m)
}

// hideHeaders blanks the headers in a message that have one of some values,
// also in messages that are packed.
func hideHeaders(m protoreflect.Message, values []string) error {
	switch x := m.Interface().(type) {
	case *core.HeaderValue:
		if slices.Contains(values, x.GetValue()) {
			x.Value = redactedText
		}
		return nil
	case *anypb.Any:
		inner, err := x.UnmarshalNew()
		if err != nil {
			return nil //nolint:nilerr // a type that is not known here, and so nothing that was made here
		}
		if err := hideHeaders(inner.ProtoReflect(), values); err != nil {
			return err
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(inner)
		x.Value = b
		return err
	}
	var failed error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil {
			return true
		}
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
					failed = hideHeaders(e.Message(), values)
					return failed == nil
				})
			}
		case fd.IsList():
			for i := 0; i < v.List().Len() && failed == nil; i++ {
				failed = hideHeaders(v.List().Get(i).Message(), values)
			}
		default:
			failed = hideHeaders(v.Message(), values)
		}
		return failed == nil
	})
	return failed
}
