package translate

import (
	"fmt"
	"sort"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Table says, for one message of Istio's API, what becomes of each field. The
// tables together cover every message reachable from the objects that
// pilotfish reads; a test walks the descriptors and requires each field to
// stand in its table exactly once. The validating webhook, lint and
// docs/support.md are made from them.
type Table struct {
	// Message is the protobuf full name, such as
	// istio.networking.v1alpha3.HTTPRoute.
	Message protoreflect.FullName
	Fields  []Field
	// Check, if not nil, tests rules between the message's fields.
	Check func(r *Report, m proto.Message)
}

// Field is one line of a Table.
type Field struct {
	// Name is the protobuf name, snake_case.
	Name protoreflect.Name
	// Feature is what applies the field: the concept, in a few words. Empty
	// for unsupported fields.
	Feature string
	// Case is the txtar case under testdata that proves it, without suffix.
	Case string
	// Elsewhere is the package that applies and tests the field, if that is
	// not translation; there is no Case then.
	Elsewhere string
	// Check, if not nil, tests a set field's value (each element of a list).
	Check func(r *Report, v protoreflect.Value)
	// Unsupported, if not empty, says why the field has no effect, and is
	// reported when it is used.
	Unsupported string
}

// Report collects the problems of one object. It carries the path of the
// field at hand, so checks need not.
type Report struct {
	meta     *config.Meta
	path     []string
	problems []config.Problem
}

// Errorf reports that the field at hand is wrong; the object is not put into
// effect.
func (r *Report) Errorf(code, format string, args ...any) {
	r.add("", config.Error, code, format, args...)
}

// Warnf reports that the field at hand probably does not do what was meant.
func (r *Report) Warnf(code, format string, args ...any) {
	r.add("", config.Warning, code, format, args...)
}

// ErrorAt is Errorf for a field below the one at hand, such as "route[1]".
func (r *Report) ErrorAt(sub, code, format string, args ...any) {
	r.add(sub, config.Error, code, format, args...)
}

// WarnAt is Warnf for a field below the one at hand.
func (r *Report) WarnAt(sub, code, format string, args ...any) {
	r.add(sub, config.Warning, code, format, args...)
}

// Meta is that of the object being checked.
func (r *Report) Meta() *config.Meta { return r.meta }

func (r *Report) add(sub string, s config.Severity, code, format string, args ...any) {
	field := strings.Join(r.path, "")
	if sub != "" {
		field += "." + sub
	}
	r.problems = append(r.problems, config.At(r.meta, field, s, code, format, args...))
}

func (r *Report) in(step string, f func()) {
	r.path = append(r.path, step)
	f()
	r.path = r.path[:len(r.path)-1]
}

// Check tests one object against the tables: its fields one by one, then the
// rules between them. It needs no Mesh; references to other objects are
// tested by Index.Problems. An Error among the problems means that the object
// must not be put into effect.
func Check(meta *config.Meta, spec proto.Message) []config.Problem {
	if tableOf(spec.ProtoReflect().Descriptor().FullName()) == nil {
		return []config.Problem{config.At(meta, "", config.Warning, "KindUnsupported", "has no effect: nothing applies this kind")}
	}
	return checkUnder("spec", meta, spec)
}

// checkUnder is Check for a message that stands at another place of its
// object.
func checkUnder(root string, meta *config.Meta, spec proto.Message) []config.Problem {
	r := &Report{meta: meta, path: []string{root}}
	r.message(spec.ProtoReflect())
	return r.problems
}

func (r *Report) message(m protoreflect.Message) {
	t := tableOf(m.Descriptor().FullName())
	if t == nil {
		return // a well-known type, or one that the descriptor test rules out
	}
	if t.Check != nil {
		t.Check(r, m.Interface())
	}
	for i := range t.Fields {
		f := &t.Fields[i]
		fd := m.Descriptor().Fields().ByName(f.Name)
		if fd == nil || !m.Has(fd) {
			continue
		}
		r.in("."+fd.JSONName(), func() { r.field(f, fd, m.Get(fd)) })
	}
}

func (r *Report) field(f *Field, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	if f.Unsupported != "" {
		r.Warnf("FieldUnsupported", "has no effect: %s", f.Unsupported)
		return
	}
	switch {
	case fd.IsMap():
		r.mapField(f, fd, v.Map())
	case fd.IsList():
		l := v.List()
		for i := range l.Len() {
			r.in(fmt.Sprintf("[%d]", i), func() { r.value(f, fd, l.Get(i)) })
		}
	default:
		r.value(f, fd, v)
	}
}

func (r *Report) mapField(f *Field, fd protoreflect.FieldDescriptor, m protoreflect.Map) {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	for _, k := range keys {
		r.in("["+k.String()+"]", func() {
			if f.Check != nil {
				f.Check(r, m.Get(k))
			}
			if fd.MapValue().Message() != nil {
				r.message(m.Get(k).Message())
			}
		})
	}
}

func (r *Report) value(f *Field, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	if f.Check != nil {
		f.Check(r, v)
	}
	if fd.Message() != nil {
		r.message(v.Message())
	}
}

// Tables returns every table, by message name.
func Tables() []Table {
	var out []Table
	for _, list := range [][]Table{
		virtualServiceTables(), destinationRuleTables(), gatewayTables(), sidecarTables(),
		serviceEntryTables(), workloadTables(), meshConfigTables(),
		securityTables(), envoyFilterTables(), proxyConfigKindTables(), extensionTables(), telemetryTables(),
	} {
		out = append(out, list...)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Message < out[j].Message })
	return out
}

var tablesByMessage = sync.OnceValue(func() map[protoreflect.FullName]*Table {
	all := Tables()
	out := make(map[protoreflect.FullName]*Table, len(all))
	for i := range all {
		out[all[i].Message] = &all[i]
	}
	return out
})

func tableOf(name protoreflect.FullName) *Table { return tablesByMessage()[name] }
