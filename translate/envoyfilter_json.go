package translate

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// istioJSON makes of JSON that users write what protobuf reads as the same that
// Istio reads: durations such as "24h" and "1m30s" become seconds, and fields
// that a message does not have are left out, since other releases of Envoy have
// them.
type istioJSON struct {
	unknown []unknownField
}

// unknownField is a field that was left out.
type unknownField struct {
	path string // below the value, such as ".typed_config.a"
	of   protoreflect.Name
}

func (j *istioJSON) message(path string, md protoreflect.MessageDescriptor, v *structpb.Struct) *structpb.Struct {
	md = describedBy(md, v)
	if plainJSON(md) || md.FullName() == "google.protobuf.Any" {
		return v
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(v.GetFields()))}
	for name, e := range v.GetFields() {
		fd := fieldOf(md, name)
		switch at := path + "." + name; {
		case name == "@type":
		case fd == nil:
			j.unknown = append(j.unknown, unknownField{at, md.Name()})
			continue
		case fd.Message() == nil:
		case fd.IsMap():
			e = j.entries(at, fd.MapValue().Message(), e)
		default:
			e = j.value(at, fd.Message(), e)
		}
		out.Fields[name] = e
	}
	return out
}

func (j *istioJSON) entries(path string, md protoreflect.MessageDescriptor, v *structpb.Value) *structpb.Value {
	if md == nil || v.GetStructValue() == nil {
		return v
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(v.GetStructValue().GetFields()))}
	for key, e := range v.GetStructValue().GetFields() {
		out.Fields[key] = j.value(path+"["+key+"]", md, e)
	}
	return structpb.NewStructValue(out)
}

func (j *istioJSON) value(path string, md protoreflect.MessageDescriptor, v *structpb.Value) *structpb.Value {
	switch k := v.GetKind().(type) {
	case *structpb.Value_ListValue:
		if plainJSON(md) && md.Name() != "Duration" {
			return v
		}
		list := make([]*structpb.Value, len(k.ListValue.GetValues()))
		for i, e := range k.ListValue.GetValues() {
			list[i] = j.value(fmt.Sprintf("%s[%d]", path, i), md, e)
		}
		return structpb.NewListValue(&structpb.ListValue{Values: list})
	case *structpb.Value_StructValue:
		return structpb.NewStructValue(j.message(path, md, k.StructValue))
	case *structpb.Value_StringValue:
		if md.FullName() != "google.protobuf.Duration" {
			return v
		}
		if d, err := time.ParseDuration(k.StringValue); err == nil && d >= 0 {
			return structpb.NewStringValue(fmt.Sprintf("%d.%09ds", d/time.Second, d%time.Second))
		}
	}
	return v
}

// fieldOf is the field that a key of JSON names, or nil.
func fieldOf(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByJSONName(name); fd != nil {
		return fd
	}
	return md.Fields().ByName(protoreflect.Name(name))
}
