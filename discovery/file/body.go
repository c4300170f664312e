package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// body reads one object's content.
type body struct {
	*reader
	header   header
	key      config.Key
	node     *yaml.Node
	offset   int
	problems []config.Problem
	failed   bool
	faulty   []fault // of a message's fields
	unread   bool    // the message could not be read even without them
}

// otherKind says about a kind that is not read whether it is mistyped.
func (r *reader) otherKind(d document, h header, line int) document {
	p := config.Problem{Object: d.key, Severity: config.Error, Code: "UnknownKind", File: r.file, Line: line}
	known := knownKinds(h.group)
	switch {
	case slices.Contains(known, h.kind):
		return d // a kind of Kubernetes' own that has no part in a mesh
	case len(known) > 0:
		p.Message = fmt.Sprintf("%s has no kind %q", h.apiVersion, h.kind)
		if near := config.Nearest(h.kind, known); near != "" {
			p.Message += fmt.Sprintf(": did you mean %q?", near)
		}
	default:
		near := config.Nearest(h.group, knownGroups())
		p.Message = fmt.Sprintf("no kind %s in %s is known here", h.kind, h.apiVersion)
		if near == "" || near == h.group { // of a group of which not all kinds are read
			p.Severity = config.Info
			p.Message += ": the object has no effect"
		} else {
			p.Message += fmt.Sprintf(": did you mean the API group %q?", near)
		}
	}
	d.broken = p.Severity == config.Error
	d.problems = append(d.problems, p)
	return d
}

// headerFault is why an object cannot be named or read at all.
type headerFault struct{ field, code, message string }

func (b *body) checkHeader(kube kubeKind, istio discovery.Kind, isIstio bool) *headerFault {
	versions := kube.versions
	if isIstio {
		versions = istio.Versions
	}
	if !slices.Contains(versions, b.header.version) {
		prefix := ""
		if b.header.group != "" {
			prefix = b.header.group + "/"
		}
		return &headerFault{"apiVersion", "UnknownVersion", fmt.Sprintf(
			"%s is not served at %q: use %s", b.header.kind, b.header.apiVersion, prefix+strings.Join(versions, ", "+prefix))}
	}
	if b.header.name == "" {
		msg := "metadata.name is missing"
		if b.header.generateName {
			msg = "metadata.generateName works with an API server only: set metadata.name"
		}
		return &headerFault{"metadata", "MissingName", msg}
	}
	if errs := validation.IsDNS1123Subdomain(b.key.Name); len(errs) > 0 {
		return invalidName("metadata.name", b.key.Name, errs[0])
	}
	if ns := b.key.Namespace; ns != "" {
		if errs := validation.IsDNS1123Label(ns); len(errs) > 0 {
			return invalidName("metadata.namespace", ns, errs[0])
		}
	}
	return nil
}

func invalidName(field, value, rule string) *headerFault {
	rule, _, _ = strings.Cut(rule, " (e.g.")
	return &headerFault{field, "InvalidName", fmt.Sprintf("%q: %s", value, rule)}
}

// lineOf is the line of a field of at most two steps.
func (b *body) lineOf(path string) int {
	enc := &encoder{offset: b.offset}
	n, line := b.node, b.node.Line+b.offset
	for step := range strings.SplitSeq(path, ".") {
		for _, kv := range fields(enc, n) {
			if kv.key.Value == step {
				n, line = target(kv.value), kv.key.Line+b.offset
				break
			}
		}
	}
	return line
}

func (b *body) report(s config.Severity, f fault) {
	b.failed = b.failed || s == config.Error
	b.problems = append(b.problems, config.Problem{
		Object: b.key, Field: f.path, Severity: s, Code: f.code, Message: f.message, File: b.file, Line: f.line,
	})
}

// encoder is empty; what the one before it made is gone.
func (b *body) encoder(path string) *encoder {
	e := &b.reader.encoder
	*e = encoder{out: e.out[:0], spots: e.spots[:0], pairs: e.pairs[:0], path: path, offset: b.offset}
	return e
}

// encode makes JSON of a value, and reports what is wrong with the YAML itself.
func (b *body) encode(n *yaml.Node, path string) (enc *encoder, ok bool) {
	enc = b.encoder(path)
	enc.value(root, n)
	if enc.tooLarge {
		b.report(config.Error, fault{place{path, n.Line + b.offset}, "TooLarge",
			fmt.Sprintf("its aliases stand for more than %d values, or it is nested deeper than %d", maxAliased, maxDepth)})
		return enc, false
	}
	for _, f := range enc.faults {
		b.report(config.Error, f)
	}
	for _, f := range enc.warnings {
		b.report(config.Warning, f)
	}
	return enc, len(enc.faults) == 0
}

// without is the node without some of its fields.
func (b *body) without(names ...string) *yaml.Node {
	out := *b.node
	out.Content = nil
	for i := 0; i+1 < len(b.node.Content); i += 2 {
		if !slices.Contains(names, b.node.Content[i].Value) {
			out.Content = append(out.Content, b.node.Content[i], b.node.Content[i+1])
		}
	}
	return &out
}

func (b *body) field(name string) *yaml.Node { return fieldOf(b.node, name) }

// envelope is an Istio object but for spec and status.
type envelope struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func (b *body) istio(kind discovery.Kind) *discovery.Object {
	var env envelope
	if enc, ok := b.encode(b.without("spec", "status"), ""); ok {
		b.decodeGo(enc, &env, config.Error)
	}
	o := &discovery.Object{Meta: b.meta(&env.ObjectMeta)}
	spec := kind.New()
	o.Meta.Lines = config.Lines{}
	b.metadataLines("metadata", b.field("metadata"), o.Meta.Lines)
	if n := b.field("spec"); n != nil {
		b.decodeProto("spec", n, spec, o.Meta.Lines, config.Error)
	}
	o.Body = spec
	if n := b.field("status"); n != nil && kind.Kind == "ServiceEntry" {
		status := &networking.ServiceEntryStatus{}
		if enc, ok := b.encode(n, "status"); ok &&
			(protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(enc.out, status) == nil {
			o.Status = status
		}
	}
	if b.failed {
		b.checkRest(&o.Meta, spec)
		return b.standIn(&o.Meta, spec)
	}
	return o
}

var protoPosition = regexp.MustCompile(`\(line (\d+):\d+\): ?`)

// decodeProto reads a message; unknown is the severity of a field that it does
// not have.
func (b *body) decodeProto(path string, n *yaml.Node, into proto.Message, lines config.Lines, unknown config.Severity) {
	enc, ok := b.encode(n, path)
	if !ok {
		b.unread = true
		return
	}
	w := fieldWalk{enc: &encoder{offset: b.offset}, lines: lines, bad: map[*yaml.Node]bool{}}
	if lines[path] == 0 {
		lines[path] = b.lineOf(path)
	}
	w.message(path, n, into.ProtoReflect().Descriptor())
	for _, f := range w.unknown {
		b.report(unknown, f)
	}
	for _, f := range w.invalid {
		b.report(config.Error, f)
	}
	b.faulty = append(append(b.faulty, w.unknown...), w.invalid...)
	b.unread = w.bad[target(n)]
	for range maxInvalid {
		if b.unread {
			return
		}
		if len(w.bad) > 0 {
			enc = b.encoder(path)
			enc.without = w.bad
			enc.value(root, n)
		}
		node, f := b.unmarshal(path, enc, into, len(w.unknown) > 0, lines)
		if f == nil {
			return
		}
		b.report(config.Error, *f)
		b.faulty = append(b.faulty, *f)
		if node == nil || w.bad[node] {
			break
		}
		w.bad[node] = true // the next try finds what else is wrong
	}
	b.unread = true
}

// maxInvalid bounds the values of one object that are reported as invalid
// beyond those of the wrong shape.
const maxInvalid = 20

// unmarshal reads a message's JSON. What is wrong with it is a value, nil if
// unknown.
func (b *body) unmarshal(path string, enc *encoder, into proto.Message, discard bool, lines config.Lines) (*yaml.Node, *fault) {
	proto.Reset(into)
	js := config.PlainDurations(enc.out, into.ProtoReflect().Descriptor())
	err := protojson.UnmarshalOptions{DiscardUnknown: discard}.Unmarshal(js, into)
	if err == nil {
		return nil, nil
	}
	var node *yaml.Node
	at := place{path, lines[path]}
	msg := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	if m := protoPosition.FindStringSubmatchIndex(msg); m != nil {
		line, _ := strconv.Atoi(msg[m[2]:m[3]])
		at, node = enc.atLine(line), enc.nodeAt(line)
		msg = msg[:m[0]] + msg[m[1]:]
	}
	switch {
	case strings.Contains(msg, "for string field"), strings.Contains(msg, "for enum field") && (strings.HasSuffix(msg, "true") || strings.HasSuffix(msg, "false")):
		msg += ": put it in quotes"
	case strings.Contains(msg, "google.protobuf.Duration"):
		msg += ": want a duration such as 1.5s, 10m or 24h"
	}
	return node, &fault{at, "InvalidValue", msg}
}

// checkRest reports the errors in the rest of an object that cannot be used;
// warnings wait until it can. What only follows from a fault is left out: something missing beside
// it, or its own place.
func (b *body) checkRest(meta *config.Meta, spec proto.Message) {
	if b.check == nil || b.unread || len(b.faulty) == 0 {
		return
	}
	for _, p := range b.check(meta, spec) {
		if p.Severity == config.Error && !slices.ContainsFunc(b.faulty, func(f fault) bool { return follows(p.Field, f.path, meta.Lines) }) {
			b.problems = append(b.problems, p)
		}
	}
}

// follows reports whether a problem of a field may come of a fault at a path.
func follows(field, path string, lines config.Lines) bool {
	if field == path || within(path, field) || within(field, path) {
		return true
	}
	_, written := lines[field]
	return !written && parentOf(field) == parentOf(path)
}

// within reports whether a path lies below another.
func within(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

func parentOf(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

func (b *body) kube(kind kubeKind) *discovery.Object {
	into := kind.new()
	var lines config.Lines
	switch {
	case b.key == meshConfig:
		lines = b.meshConfig()
	case kind.kind == "Secret":
		b.secretData()
	}
	enc, ok := b.encode(b.node, "")
	if ok && !b.failed {
		// Pilotfish reads little of these kinds, and a newer Kubernetes has
		// fields that it does not know: they are no reason to refuse one.
		unknown := config.Warning
		if discovery.IsReferenceGrant(b.key) {
			unknown = config.Error // it may be what the grant is limited by
		}
		b.decodeGo(enc, into, unknown)
	}
	if b.failed {
		return nil
	}
	acc, ok := into.(metav1.ObjectMetaAccessor)
	if !ok {
		return nil
	}
	om, ok := acc.GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		return nil
	}
	om.Namespace = b.key.Namespace // the API server fills it in too
	meta := b.meta(om)
	meta.Lines = b.kubeLines(lines)
	return &discovery.Object{Meta: meta, Body: into}
}

// decodeGo decodes into a Kubernetes type; unknown is the severity of a field
// that the type does not have.
func (b *body) decodeGo(enc *encoder, into any, unknown config.Severity) {
	strict, err := kjson.UnmarshalStrict(enc.out, into)
	for _, s := range strict {
		var f kjson.FieldError
		if !errors.As(s, &f) {
			continue
		}
		path := f.FieldPath()
		name := path[strings.LastIndexByte(path, '.')+1:]
		at := place{path, enc.lineOf(path)}
		b.report(unknown, unknownField(at, name, goFields(reflect.TypeOf(into), path)))
	}
	if err == nil {
		return
	}
	at := enc.atLine(1)
	if t := (*json.UnmarshalTypeError)(nil); errors.As(err, &t) {
		at = enc.atOffset(int(t.Offset))
		b.report(config.Error, fault{at, "InvalidValue", "got " + jsonWords(t.Value) + ", want " + goWords(t.Type)})
		return
	}
	b.report(config.Error, fault{at, "InvalidValue", strings.TrimPrefix(err.Error(), "json: ")})
}

func (b *body) meta(om *metav1.ObjectMeta) config.Meta {
	return config.Meta{
		Key: b.key, Version: b.header.version, Labels: om.Labels, Annotations: om.Annotations,
		Created: om.CreationTimestamp.Time, Generation: om.Generation, ResourceVersion: om.ResourceVersion,
		File: b.file, Line: b.node.Line + b.offset,
	}
}
