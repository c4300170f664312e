package config

import "google.golang.org/protobuf/reflect/protoreflect"

// mergeOver copies the fields set in over onto base: scalars and lists
// replace, maps gain entries, messages merge. proto.Merge would append lists.
func mergeOver(base, over protoreflect.Message) {
	over.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			dst := base.Mutable(fd).Map()
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				dst.Set(k, e)
				return true
			})
		case fd.IsList() || fd.Message() == nil || isValue(fd.Message()):
			base.Set(fd, v)
		default:
			mergeOver(base.Mutable(fd).Message(), v.Message())
		}
		return true
	})
}

// isValue reports whether a message is one value (a duration, a wrapped
// scalar) that replaces instead of merging field by field.
func isValue(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf"
}
