package translate

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/structpb"
)

// valueFault is what is wrong with a patch's value, and in which of its fields.
type valueFault struct {
	field string // below the value, such as ".typed_config.rules"; may be empty
	text  string
}

// Error implements error.
func (f *valueFault) Error() string { return f.text }

// readAs reads JSON that users write as a message.
func readAs(m proto.Message, v *structpb.Struct) error {
	b, err := protojson.Marshal(v)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(b, m)
}

// faultOf finds the innermost field that keeps a value from being read as a
// message, which protojson's own errors seldom name. Each level is read once more
// for each of its fields.
func faultOf(md protoreflect.MessageDescriptor, v *structpb.Struct, whole error) *valueFault {
	out := &valueFault{text: faultText(md, whole)}
	for {
		name, inner := faultyEntry(md, v)
		if name == "" {
			return out
		}
		fd := fieldOf(describedBy(md, v), name)
		if fd == nil {
			return out // unknown, which the text says
		}
		out.field += "." + name
		if list := inner.GetListValue(); fd.IsList() && list != nil {
			at := faultyElement(md, v, name, list)
			if at < 0 {
				return out
			}
			out.field += "[" + strconv.Itoa(at) + "]"
			inner = list.GetValues()[at]
		} else if fd.IsList() {
			out.text = fmt.Sprintf("is %s; want a list", kindOfValue(inner))
			return out
		}
		below := inner.GetStructValue()
		switch {
		case fd.IsMap():
			if below == nil {
				out.text = fmt.Sprintf("is %s; want a mapping", kindOfValue(inner))
			}
			return out
		case fd.Message() == nil:
			return out
		case plainJSON(fd.Message()):
			out.text = fmt.Sprintf("is %s; want a %s", kindOfValue(inner), fd.Message().FullName())
			return out
		case below == nil:
			out.text = fmt.Sprintf("is %s; want a mapping, the fields of %s", kindOfValue(inner), fd.Message().Name())
			return out
		}
		md, v = fd.Message(), below
		m := newOf(md)
		if m == nil {
			return out
		}
		err := readAs(m, v)
		if err == nil {
			return out
		}
		out.text = faultText(describedBy(md, v), err)
	}
}

func faultText(md protoreflect.MessageDescriptor, err error) string {
	// The place is one of the JSON made here, which the user never saw.
	text := jsonPlace.ReplaceAllString(strings.TrimSpace(strings.TrimPrefix(plainError(err), "proto:")), "")
	return fmt.Sprintf("is no %s: %s", md.Name(), text)
}

// plainJSON: messages whose JSON is not that of their fields.
func plainJSON(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf" && md.Name() != "Any" && md.Name() != "Empty"
}

func newOf(md protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		return nil
	}
	return t.New().Interface()
}

// describedBy is whose fields a value has: of an Any those of the type that it names.
func describedBy(md protoreflect.MessageDescriptor, v *structpb.Struct) protoreflect.MessageDescriptor {
	if md.FullName() == "google.protobuf.Any" {
		if t, err := protoregistry.GlobalTypes.FindMessageByURL(v.GetFields()["@type"].GetStringValue()); err == nil {
			return t.Descriptor()
		}
	}
	return md
}

// faultyEntry is the first of a value's entries that cannot be read by itself.
func faultyEntry(md protoreflect.MessageDescriptor, v *structpb.Struct) (string, *structpb.Value) {
	keys := labelKeys{}
	for k := range v.GetFields() {
		keys[k] = true
	}
	for _, k := range keys.sorted() {
		if k != "@type" && !readable(md, v, k, v.GetFields()[k]) {
			return k, v.GetFields()[k]
		}
	}
	return "", nil
}

func faultyElement(md protoreflect.MessageDescriptor, v *structpb.Struct, name string, list *structpb.ListValue) int {
	for i, e := range list.GetValues() {
		if !readable(md, v, name, structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{e}})) {
			return i
		}
	}
	return -1
}

func readable(md protoreflect.MessageDescriptor, v *structpb.Struct, name string, entry *structpb.Value) bool {
	m := newOf(md)
	if m == nil {
		return true
	}
	only := map[string]*structpb.Value{name: entry}
	if t := v.GetFields()["@type"]; t != nil {
		only["@type"] = t
	}
	return readAs(m, &structpb.Struct{Fields: only}) == nil
}

func kindOfValue(v *structpb.Value) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return shown(k.StringValue)
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(k.NumberValue, 'g', -1, 64)
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(k.BoolValue)
	case *structpb.Value_ListValue:
		return "a list"
	case *structpb.Value_StructValue:
		return "a mapping"
	}
	return "null"
}
