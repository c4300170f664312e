package inject

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Note says what became of one object of a YAML stream.
type Note struct {
	Object  string // Deployment shop/web
	Line    int    // that the object's document begins on
	Skipped string // why it was left as it is; empty if it was injected
	Warning string // about an injected object
}

// templates are the places of pods in the objects that make them.
var templatePlaces = map[string][]string{
	"Pod":                   {},
	"Deployment":            {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"ReplicationController": {"spec", "template"},
	"Job":                   {"spec", "template"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
	"Rollout":               {"spec", "template"}, // of Argo
	"DeploymentConfig":      {"spec", "template"}, // of OpenShift
}

// YAML injects every pod and pod template of a YAML stream. Documents without
// any stay as they are, byte by byte. Objects that name no namespace are taken
// to be of namespace ns. The error names every object that failed.
func (in *Injector) YAML(text []byte, ns string) ([]byte, []Note, error) {
	s := &stream{injector: in, namespace: ns}
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var out bytes.Buffer
	line := 1
	for first := true; ; first = false {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", line, err)
		}
		s.line = line
		if !first || bytes.HasPrefix(text, []byte("---")) {
			out.WriteString("---\n")
		}
		out.Write(s.document(doc))
		line += bytes.Count(doc, []byte("\n")) + 1
	}
	return out.Bytes(), s.notes, errors.Join(s.faults...)
}

// stream is the state of one YAML call.
type stream struct {
	injector  *Injector
	namespace string
	line      int
	notes     []Note
	faults    []error
}

// document returns a document injected, or as it was.
func (s *stream) document(doc []byte) []byte {
	o, err := readYAML(doc)
	if err != nil {
		s.faults = append(s.faults, s.place(err))
		return doc
	}
	if !s.object(o) {
		return doc
	}
	b, err := yaml.Marshal(o)
	if err != nil {
		s.faults = append(s.faults, fmt.Errorf("line %d: %w", s.line, err))
		return doc
	}
	return b
}

// yamlLine is how the YAML library says where in a document a fault is.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// place gives a fault of a document its line in the stream.
func (s *stream) place(err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, _ := strconv.Atoi(m[1]); n > 0 {
			return fmt.Errorf("line %d: %s", s.line+n-1, err.Error()[len(m[0]):])
		}
	}
	return fmt.Errorf("line %d: %w", s.line, err)
}

// object injects what an object holds, in place, and reports whether that
// changed it.
func (s *stream) object(o Object) bool {
	kind := text(o, "kind")
	if strings.HasSuffix(kind, "List") {
		changed := false
		for _, item := range objects(o, "items") {
			changed = s.object(item) || changed
		}
		return changed
	}
	place, ok := templatePlaces[kind]
	if !ok {
		return false
	}
	meta := under(o, "metadata")
	note := Note{Object: kind + " " + text(meta, "name"), Line: s.line}
	ns := text(meta, "namespace")
	if ns == "" {
		ns = s.namespace
	} else {
		note.Object = kind + " " + ns + "/" + text(meta, "name")
	}
	parent, pod := Object(nil), o
	for _, step := range place {
		parent = pod
		if pod, ok = pod[step].(Object); !ok {
			s.fail(note.Object, fmt.Errorf("%s is not there", strings.Join(place, ".")))
			return false
		}
	}
	r := &Request{Pod: pod, Namespace: ns}
	if parent != nil {
		r.Owner = &Owner{APIVersion: text(o, "apiVersion"), Kind: kind, Namespace: ns, Name: text(meta, "name")}
	}
	result, err := s.injector.Inject(r)
	if err != nil {
		s.fail(note.Object, err)
		return false
	}
	note.Skipped, note.Warning = result.Skipped, strings.Join(result.Warnings, "; ")
	s.notes = append(s.notes, note)
	if result.Skipped != "" {
		return false
	}
	if parent != nil {
		parent[place[len(place)-1]] = result.Pod
		return true
	}
	for k, v := range result.Pod {
		o[k] = v
	}
	return true
}

func (s *stream) fail(object string, err error) {
	s.faults = append(s.faults, fmt.Errorf("line %d: %s: %w", s.line, object, err))
}
