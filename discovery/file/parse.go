package file

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// DefaultNamespace is that of namespaced objects that name none.
const DefaultNamespace = "default"

// Parse reads the objects of a stream of YAML documents (JSON is YAML too).
// name is the file name for positions. A document that cannot be used yields
// Problems of severity Error and no object; it has no effect on the others.
// Kinds that the mesh is not made of are passed over, with a Problem only if
// nobody knows them.
func Parse(name string, data []byte) ([]discovery.Object, []config.Problem) {
	return ParseChecked(name, data, nil)
}

// ParseChecked is Parse; of an Istio object that cannot be used it also
// reports what check finds in the rest of it, so that mistakes come all at
// once.
func ParseChecked(name string, data []byte, check discovery.Validator) ([]discovery.Object, []config.Problem) {
	r := reader{file: name, namespace: DefaultNamespace, check: check}
	var objects []discovery.Object
	var problems []config.Problem
	for _, d := range r.stream(data) {
		if d.object != nil {
			objects = append(objects, *d.object)
		}
		problems = append(problems, d.problems...)
	}
	return objects, problems
}

// document is what one YAML document, or one item of a List, came to.
type document struct {
	// key names the object. Its Kind is empty if it could not be made out.
	key config.Key
	// object is nil if broken, unless something stands in for it, or of a kind
	// that is not read.
	object   *discovery.Object
	broken   bool
	problems []config.Problem
}

// reader reads the documents of one file.
type reader struct {
	file      string
	above     int                 // lines of the file before what is read
	namespace string              // of namespaced objects that name none
	check     discovery.Validator // of the rest of broken Istio objects; may be nil
	memory    *Memory             // may be nil
	strict    bool                // see Text

	encoder encoder // in use by one object at a time
}

func (r *reader) stream(data []byte) []document {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		// YAML may be that, but no document after the first would be found.
		return []document{{broken: true, problems: []config.Problem{{
			Severity: config.Error, Code: "MalformedYAML", Message: "is UTF-16: save the file as UTF-8", File: r.file, Line: 1,
		}}}}
	}
	chunks := split(data)
	out := make([]document, 0, len(chunks))
	for _, c := range chunks {
		c.line += r.above
		if r.memory == nil {
			out = append(out, r.chunk(c)...)
			continue
		}
		came, known := r.memory.of(c, r.file)
		if !known {
			came = r.chunk(c)
			r.memory.keep(c, came)
		}
		out = append(out, came...)
	}
	return out
}

// plains are not in use.
var plains = sync.Pool{New: func() any { return new(plain) }}

func (r *reader) chunk(c chunk) []document {
	if p, ok := plains.Get().(*plain); ok {
		defer plains.Put(p)
		if root := p.document(c.text); root != nil {
			return r.document(root, c.line-1)
		}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(c.text, &root); err != nil {
		line, msg := syntaxFault(c.text, err)
		d := document{key: r.guessKey(c.text, line), broken: true}
		d.problems = []config.Problem{{
			Object: d.key, Severity: config.Error, Code: "MalformedYAML",
			Message: msg, File: r.file, Line: c.line - 1 + line,
		}}
		d.object = standInFor(&d, d.problems[0].File, c.line)
		return []document{d}
	}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		return r.document(root.Content[0], c.line-1)
	}
	return nil
}

// guessKey names the object of a document that does not parse: by what stands
// before the faulty line, or else by the lines that look as if they named it.
// It is the zero Key if they cannot be found.
func (r *reader) guessKey(text []byte, faulty int) config.Key {
	end := 0
	for range faulty - 1 {
		end += bytes.IndexByte(text[end:], '\n') + 1
	}
	var root yaml.Node
	if yaml.Unmarshal(text[:end], &root) == nil && len(root.Content) == 1 {
		if h := readHeader(target(root.Content[0])); h.kind != "" && h.name != "" && h.items == nil {
			return h.key(r.namespace)
		}
	}
	return r.guessLines(text)
}

// flowName finds the names in metadata: {name: a, namespace: b}.
var flowName = regexp.MustCompile(`[{,]\s*"?(name|namespace)"?:\s*"?([^,}"\s]+)`)

func (r *reader) guessLines(text []byte) config.Key {
	var apiVersion, kind string
	meta := map[string]string{}
	inMeta := false
	for line := range strings.Lines(string(text)) {
		field, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		value, _, _ = strings.Cut(value, " #")
		value = strings.Trim(value, " \t\"'")
		switch {
		case field == "apiVersion":
			apiVersion = value
		case field == "kind":
			kind = value
		case strings.TrimLeft(field, " ") == field:
			inMeta = field == "metadata"
			if !inMeta && !strings.HasPrefix(field, "{") {
				continue // the names of spec: {...} are others
			}
			for _, m := range flowName.FindAllStringSubmatch(line, -1) {
				meta[m[1]] = m[2]
			}
		case inMeta && strings.TrimLeft(field, " ") == field[min(2, len(field)):]:
			meta[strings.TrimSpace(field)] = value
		}
	}
	if kind == "" || apiVersion == "" || meta["name"] == "" || strings.HasSuffix(kind, "List") {
		return config.Key{}
	}
	h := header{group: groupOf(apiVersion), kind: kind, name: meta["name"], namespace: meta["namespace"]}
	return h.key(r.namespace)
}

// document reads one document, or each item of a List. offset is the number
// of the file's lines before the node's own line 1.
func (r *reader) document(n *yaml.Node, offset int) []document {
	n = target(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	h := readHeader(n)
	if h.isList() {
		var out []document
		items := target(h.items)
		for _, item := range items.Content {
			out = append(out, r.document(item, offset)...)
		}
		return out
	}
	if h.kind == "List" && h.items != nil && target(h.items).ShortTag() != "!!null" {
		return []document{{broken: true, problems: []config.Problem{{
			Severity: config.Error, Code: "NotAnObject", Field: "items", Message: "is no list of objects", File: r.file, Line: h.items.Line + offset,
		}}}}
	}
	return []document{r.object(h, n, offset)}
}

// header is what names an object.
type header struct {
	apiVersion, kind, name, namespace string
	group, version                    string
	items                             *yaml.Node
	generateName                      bool
}

func readHeader(n *yaml.Node) header {
	meta := fieldOf(n, "metadata")
	h := header{
		apiVersion: text(fieldOf(n, "apiVersion")), kind: text(fieldOf(n, "kind")),
		name: text(fieldOf(meta, "name")), namespace: text(fieldOf(meta, "namespace")),
		items: fieldOf(n, "items"), generateName: fieldOf(meta, "generateName") != nil,
	}
	h.group, h.version = groupOf(h.apiVersion), h.apiVersion[strings.LastIndex(h.apiVersion, "/")+1:]
	return h
}

func fields(enc *encoder, n *yaml.Node) []entry {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	return enc.entries(root, n, 0)
}

// text is a value that is no mapping, no list and not null; empty if there is
// none.
func text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n = target(n); n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		return n.Value
	}
	return ""
}

func groupOf(apiVersion string) string {
	if i := strings.LastIndex(apiVersion, "/"); i >= 0 {
		return apiVersion[:i]
	}
	return ""
}

func (h *header) isList() bool {
	return strings.HasSuffix(h.kind, "List") && h.items != nil && target(h.items).Kind == yaml.SequenceNode
}

func (h *header) key(namespace string) config.Key {
	k := config.Key{Group: h.group, Kind: h.kind, Namespace: h.namespace, Name: h.name}
	if kk, ok := kubeKindOf(h.group, h.kind); ok && kk.clusterScoped {
		k.Namespace = ""
	} else if k.Namespace == "" {
		k.Namespace = namespace
	}
	return k
}

// isForeign reports whether a document is for another program, such as a
// package.json or the values of a chart.
func isForeign(n *yaml.Node) bool {
	return n.Kind == yaml.SequenceNode || n.Kind == yaml.MappingNode &&
		!slices.ContainsFunc([]string{"apiVersion", "kind", "metadata", "spec"}, func(name string) bool { return fieldOf(n, name) != nil })
}

// object reads one object of whatever kind.
func (r *reader) object(h header, n *yaml.Node, offset int) (d document) {
	d.key = h.key(r.namespace)
	line := n.Line + offset
	fail := func(line int, field, code, format string, args ...any) document {
		d.problems = append(d.problems, config.Problem{
			Object: d.key, Field: field, Severity: config.Error, Code: code,
			Message: fmt.Sprintf(format, args...), File: r.file, Line: line,
		})
		d.broken, d.object = true, nil
		return d
	}
	if !r.strict && isForeign(n) {
		d.key = config.Key{}
		d.problems = append(d.problems, config.Problem{
			Severity: config.Info, Code: "NotKubernetes", File: r.file, Line: line,
			Message: "is no Kubernetes object, since it has none of the fields apiVersion, kind, metadata and spec: it is passed over",
		})
		return d
	}
	if n.Kind != yaml.MappingNode || h.kind == "" || h.apiVersion == "" {
		d.key = config.Key{}
		return fail(line, "", "NotAnObject", "not a Kubernetes object: it needs the fields apiVersion, kind and metadata.name")
	}
	kube, isKube := kubeKindOf(h.group, h.kind)
	istio, isIstio := istioKindOf(h.group, h.kind)
	if !isKube && !isIstio {
		return r.otherKind(d, h, line)
	}
	b := body{reader: r, header: h, key: d.key, node: n, offset: offset}
	if err := b.checkHeader(kube, istio, isIstio); err != nil {
		d = fail(b.lineOf(err.field), err.field, err.code, "%s", err.message)
		d.object = standInFor(&d, r.file, line)
		return d
	}
	var o *discovery.Object
	if isIstio {
		o = b.istio(istio)
	} else {
		if o = b.kube(kube); o == nil {
			o = standInFor(&d, r.file, line)
		}
	}
	d.problems = append(d.problems, b.problems...)
	d.object, d.broken = o, b.failed || o == nil
	return d
}
