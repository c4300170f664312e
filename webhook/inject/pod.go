package inject

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// The names of what is injected.
const (
	proxyContainer    = "istio-proxy"
	initContainer     = "istio-init"
	validateContainer = "istio-validation"
	coreDumpContainer = "enable-core-dump"
)

// Object is a JSON object: a pod, or a part of one.
type Object = map[string]any

// The lists of containers in a pod's spec.
const (
	containersList = "containers"
	initList       = "initContainers"
)

// readObject reads JSON with its integers as they are.
func readObject(b []byte) (Object, error) {
	var o Object
	err := utiljson.Unmarshal(b, &o)
	return o, err
}

// readYAML reads a YAML mapping; nothing at all is an empty one.
func readYAML(text []byte) (Object, error) {
	b, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	if string(b) == "null" {
		return Object{}, nil
	}
	return readObject(b)
}

// fromObject reads an object into a Go value.
func fromObject(o Object, into any) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func clone(o Object) Object { return runtime.DeepCopyJSON(o) }

// under is a part of o, which is made if it is absent.
func under(o Object, name string) Object {
	part, ok := o[name].(Object)
	if !ok {
		part = Object{}
		o[name] = part
	}
	return part
}

// text is a field of o, or "".
func text(o Object, name string) string {
	s, _ := o[name].(string)
	return s
}

func spec(pod Object) Object { return under(pod, "spec") }

func annotations(pod Object) Object { return under(under(pod, "metadata"), "annotations") }

// objects are the elements of a list of objects.
func objects(o Object, name string) []Object {
	list, _ := o[name].([]any)
	out := make([]Object, 0, len(list))
	for _, v := range list {
		if e, ok := v.(Object); ok {
			out = append(out, e)
		}
	}
	return out
}

// setObjects sets a list of objects; an empty one is none.
func setObjects(o Object, name string, list []Object) {
	if len(list) == 0 {
		delete(o, name)
		return
	}
	all := make([]any, len(list))
	for i, e := range list {
		all[i] = e
	}
	o[name] = all
}

// named finds an element of a list by its name, or nil.
func named(list []Object, name string) Object {
	for _, e := range list {
		if text(e, "name") == name {
			return e
		}
	}
	return nil
}

func withoutNamed(list []Object, name string) []Object {
	out := make([]Object, 0, len(list))
	for _, e := range list {
		if text(e, "name") != name {
			out = append(out, e)
		}
	}
	return out
}

// proxyOf is the pod's proxy, in whichever list it stands.
func proxyOf(pod Object) Object {
	if c := named(objects(spec(pod), containersList), proxyContainer); c != nil {
		return c
	}
	return named(objects(spec(pod), initList), proxyContainer)
}

// env is the value of one of a container's variables.
func env(container Object, name string) (string, bool) {
	v := named(objects(container, "env"), name)
	value, ok := v["value"].(string)
	return value, ok
}

func setEnv(container Object, name, value string) {
	list := objects(container, "env")
	if v := named(list, name); v != nil {
		delete(v, "valueFrom")
		v["value"] = value
		return
	}
	setObjects(container, "env", append(list, Object{"name": name, "value": value}))
}

// podSchema says which lists of a pod merge by which key.
var podSchema = func() strategicpatch.PatchMetaFromStruct {
	s, err := strategicpatch.NewPatchMetaFromStruct(corev1.Pod{})
	if err != nil {
		panic(err) // not for any input: the type is fixed
	}
	return s
}()

// merged is a strategic merge of over upon pod; both stay as they are.
func merged(pod, over Object) (Object, error) {
	out, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(clone(pod), clone(over), podSchema)
	if err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	if s, ok := out["spec"].(Object); ok {
		dropNulls(s)
	}
	return out, nil
}

// dropNulls drops the nulls of a template's new list elements, where they
// delete nothing.
func dropNulls(v any) {
	switch v := v.(type) {
	case Object:
		for k, e := range v {
			if e == nil {
				delete(v, k)
				continue
			}
			dropNulls(e)
		}
	case []any:
		for _, e := range v {
			dropNulls(e)
		}
	}
}
