package file

import (
	"reflect"
	"strings"
)

// goFields are the JSON names beside the last step of a path such as
// spec.ports[0].prot, in a Go type that encoding/json describes.
func goFields(t reflect.Type, path string) []string {
	steps := strings.Split(path, ".")
	for _, step := range steps[:len(steps)-1] {
		name, rest, _ := strings.Cut(step, "[")
		f, ok := jsonField(deref(t), name)
		if !ok {
			return nil
		}
		t = deref(f)
		for rest != "" && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
			t = deref(t.Elem())
			_, rest, _ = strings.Cut(rest, "[")
		}
	}
	return jsonNames(deref(t))
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func jsonField(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name && tag != "" {
			return f.Type, true
		}
		if tag == "" && f.Anonymous {
			if in, ok := jsonField(deref(f.Type), name); ok {
				return in, true
			}
		}
	}
	return nil, false
}

func jsonNames(t reflect.Type) []string {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "" && f.Anonymous:
			out = append(out, jsonNames(deref(f.Type))...)
		case tag != "" && tag != "-":
			out = append(out, tag)
		}
	}
	return out
}

// jsonWords and goWords say for people what a JSON decoder calls its values
// and types.
func jsonWords(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	switch kind {
	case "string":
		return "text"
	case "bool":
		return "a truth value"
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	}
	return "a " + value
}

func goWords(t reflect.Type) string {
	switch t = deref(t); t.Kind() {
	case reflect.String:
		return "text: put it in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "a " + t.String()
}
