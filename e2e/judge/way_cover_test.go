package judge

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// specs are the messages that configurations are drawn of.
var specs = map[string]proto.Message{
	"VirtualService": &networking.VirtualService{}, "DestinationRule": &networking.DestinationRule{}, "Gateway": &networking.Gateway{},
	"AuthorizationPolicy": &securityapi.AuthorizationPolicy{}, "PeerAuthentication": &securityapi.PeerAuthentication{},
	"RequestAuthentication": &securityapi.RequestAuthentication{},
}

// fieldCoverage knows which fields of the API decided a pair on which
// simulator and Envoys agree: without the field, the answer is another one.
type fieldCoverage struct {
	t       *testing.T
	covered map[string]bool
	ends    map[string]int // of pairs
	seen    map[string]int // in how many configurations, whether it decided or not
	kinds   kinds

	base      []file.Text
	addresses func(config.Key, map[string]string) []string
	world     *simulate.World // any: worlds share what they have in common
}

// newFieldCoverage is about the mesh of a folder, whose pods have given
// addresses.
func newFieldCoverage(t *testing.T, dir string, given map[config.Key][]string) *fieldCoverage {
	t.Helper()
	base, _, err := file.ReadTexts(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &fieldCoverage{t: t, covered: map[string]bool{}, ends: map[string]int{}, seen: map[string]int{}, kinds: kinds{}}
	for _, text := range base {
		if !strings.HasSuffix(text.Name, "drawn.yaml") {
			c.base = append(c.base, text)
		}
	}
	c.addresses = func(pod config.Key, _ map[string]string) []string { return given[pod] }
	return c
}

// of is the World of a configuration that no Envoy has.
func (c *fieldCoverage) of(objects []object) *simulate.World {
	store := discovery.NewStore(translate.Check, file.Name)
	changes, problems := file.Objects(append(slices.Clone(c.base), file.Text{Name: "drawn.yaml", Data: []byte(texts(objects))}), c.addresses, translate.Check)
	store.Replace(file.Name, changes, problems)
	store.Synced(file.Name)
	if c.world == nil {
		c.world = simulate.NewWorld(store.Mesh())
		return c.world
	}
	return c.world.With(store.Mesh())
}

// redrawn is how often a configuration is drawn until a field is in it.
const redrawn = 2000

// draw draws a configuration and queries. As long as some field has decided
// nothing, or some kind was not sent, the configuration shows one of these:
// found. So a run ends with all of them, unless what is drawn cannot show one.
func (c *fieldCoverage) draw(d wayDice, queries int) (objects []object, list []*simulate.Query, found bool) {
	fields, kinds := c.open(), c.kinds.missing(c.t)
	for n := range candidates {
		objects, list = d.configuration(), nil
		var shows func() bool
		switch {
		case len(fields) > 0:
			name := fields[n%len(fields)]
			is := func(f string) bool { return f == name }
			for i := 0; i < redrawn && !slices.ContainsFunc(fieldsOf(objects), func(f apiField) bool { return is(f.name) }); i++ {
				objects = d.configuration()
			}
			shows = func() bool { return len(c.decisive(objects, list, is)) > 0 }
		case len(kinds) > 0:
			shows = func() bool { return c.sends(objects, kinds) }
		}
		for range queries {
			list = append(list, d.query())
		}
		if shows == nil {
			return objects, list, false
		}
		if shows() {
			return objects, list, true
		}
	}
	return objects, list, false
}

// sends reports whether a configuration has Envoys sent one of some kinds.
func (c *fieldCoverage) sends(objects []object, some []string) bool {
	own := kinds{}
	own.addWorld(c.of(objects))
	return slices.ContainsFunc(some, func(name string) bool { return own[name] })
}

// add counts what a configuration's pairs, on which all agreed, were decided
// by.
func (c *fieldCoverage) add(w *simulate.World, objects []object, queries []*simulate.Query) {
	for _, f := range fieldsOf(objects) {
		c.seen[f.name]++
	}
	for _, name := range c.decisive(objects, queries, func(f string) bool { return !c.covered[f] && notSeen(f) == "" }) {
		c.covered[name] = true
	}
	for _, q := range queries {
		a, err := w.Ask(q)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range a.Results {
			r := &a.Results[i]
			end := fmt.Sprint(r.Status)
			if r.Delivered {
				end = r.Security
			}
			c.ends[strings.SplitN(q.URL, ":", 2)[0]+" "+end]++
		}
	}
	c.kinds.addWorld(w)
}

// decisive are the fields, of those asked for, that decide the answer to a
// query.
func (c *fieldCoverage) decisive(objects []object, queries []*simulate.Query, asked func(field string) bool) []string {
	open := slices.DeleteFunc(fieldsOf(objects), func(f apiField) bool { return !asked(f.name) })
	if len(open) == 0 {
		return nil
	}
	with := c.of(objects)
	answers := make([]string, len(queries))
	for i, q := range queries {
		answers[i] = digest(c.t, with, q)
	}
	var out []string
	for _, f := range open {
		if slices.Contains(out, f.name) {
			continue
		}
		for _, change := range f.changes {
			other := copyOf(objects)
			change(other)
			if w := c.of(other); slices.ContainsFunc(queries, func(q *simulate.Query) bool { return digest(c.t, w, q) != answers[slices.Index(queries, q)] }) {
				out = append(out, f.name)
				break
			}
		}
	}
	return out
}

// digest is what of an answer is compared with real Envoys.
func digest(t *testing.T, w *simulate.World, q *simulate.Query) string {
	t.Helper()
	a, err := w.Ask(q)
	if err != nil {
		return err.Error()
	}
	type end struct {
		Percent          float64
		Workload         string
		Security         string
		Version          string
		Status           int
		Method, Host, At string
		Location, Body   string
		Headers          []string
	}
	var ends []end
	for i := range a.Results {
		r := &a.Results[i]
		e := end{Percent: r.Percent, Workload: r.Workload, Status: r.Status, Version: r.Labels["version"]}
		if e.Security = r.Security; a.Hop.Sent == nil {
			e.Security = ""
		}
		if reply := replyOf(a, r); reply != nil {
			e.Location, e.Body = reply.Location, reply.Body
		}
		if r.Sent != nil {
			e.Method, e.Host, e.At = r.Sent.Method, r.Sent.Authority, r.Sent.Path
			for _, name := range seenHeaders {
				value, there := r.Sent.HeaderValue(name)
				e.Headers = append(e.Headers, fmt.Sprint(value, there))
			}
		}
		ends = append(ends, e)
	}
	b, err := json.Marshal(ends)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// apiField is one field of the API that is set somewhere. The values of enums
// have names of their own.
type apiField struct {
	name string
	// changes take the field away, or give it another value.
	changes []func(objects []object)
}

func fieldsOf(objects []object) []apiField {
	var out []apiField
	for i, o := range objects {
		md := specs[o["kind"].(string)].ProtoReflect().Descriptor()
		walkFields(md, o["spec"], func(objects []object) any { return objects[i]["spec"] }, &out)
	}
	return out
}

func walkFields(md protoreflect.MessageDescriptor, tree any, at func([]object) any, out *[]apiField) {
	m, _ := tree.(object)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fd := md.Fields().ByJSONName(k)
		if fd == nil {
			continue
		}
		name := fieldName(fd)
		if fd.Enum() != nil {
			name += "=" + fmt.Sprint(m[k])
		}
		f := apiField{name, []func([]object){func(objects []object) { delete(at(objects).(object), k) }}}
		set := func(v any) {
			f.changes = append(f.changes, func(objects []object) { at(objects).(object)[k] = v })
		}
		switch {
		case fd.Enum() != nil:
			for i := range fd.Enum().Values().Len() {
				if v := string(fd.Enum().Values().Get(i).Name()); v != m[k] {
					set(v)
				}
			}
		case fd.IsMap() && fd.MapValue().Kind() == protoreflect.StringKind:
			set(object{"app": "nobody"})
		}
		*out = append(*out, f)
		inner := fd.Message()
		if fd.IsMap() {
			inner = fd.MapValue().Message()
		}
		if inner == nil || strings.HasPrefix(string(inner.FullName()), "google.") {
			continue
		}
		below := func(objects []object) any { return at(objects).(object)[k] }
		switch v := m[k].(type) {
		case []any:
			for i := range v {
				walkFields(inner, v[i], func(objects []object) any { return below(objects).([]any)[i] }, out)
			}
		case object:
			if !fd.IsMap() {
				walkFields(inner, v, below, out)
				continue
			}
			for key := range v {
				walkFields(inner, v[key], func(objects []object) any { return below(objects).(object)[key] }, out)
			}
		}
	}
}

func fieldName(fd protoreflect.FieldDescriptor) string {
	name := string(fd.Parent().FullName())
	for _, p := range []string{"istio.networking.v1alpha3.", "istio.security.v1beta1.", "istio.type.v1beta1."} {
		name = strings.TrimPrefix(name, p)
	}
	return name + "." + string(fd.Name())
}

// wanted are the fields that must be covered: all that the tables support, of
// the messages that configurations are drawn of, and the values of their enums.
func wanted() []string {
	tables := map[protoreflect.FullName]*translate.Table{}
	all := translate.Tables()
	for i := range all {
		tables[all[i].Message] = &all[i]
	}
	var out []string
	visited := map[protoreflect.FullName]bool{}
	var visit func(md protoreflect.MessageDescriptor)
	visit = func(md protoreflect.MessageDescriptor) {
		t := tables[md.FullName()]
		if t == nil || visited[md.FullName()] {
			return
		}
		visited[md.FullName()] = true
		for i := range t.Fields {
			fd := md.Fields().ByName(t.Fields[i].Name)
			name := fieldName(fd)
			if t.Fields[i].Unsupported != "" || notSeen(name) != "" {
				continue
			}
			if fd.Enum() == nil {
				out = append(out, name)
			} else {
				for i := range fd.Enum().Values().Len() {
					if value := name + "=" + string(fd.Enum().Values().Get(i).Name()); notSeen(value) == "" {
						out = append(out, value)
					}
				}
			}
			if inner := fd.Message(); inner != nil {
				if fd.IsMap() {
					inner = fd.MapValue().Message()
				}
				if inner != nil {
					visit(inner)
				}
			}
		}
	}
	for _, m := range specs {
		visit(m.ProtoReflect().Descriptor())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// open are the fields that decided no pair yet.
func (c *fieldCoverage) open() []string {
	return slices.DeleteFunc(wanted(), func(name string) bool { return c.covered[name] })
}

// check requires that every field decided some pair.
func (c *fieldCoverage) check() {
	c.t.Helper()
	for _, name := range c.open() {
		c.t.Errorf("nothing was decided by %s, which was set in %d configurations", name, c.seen[name])
	}
	for _, name := range c.kinds.missing(c.t) {
		c.t.Errorf("no Envoy of the corpus was sent a %s, which the simulator interprets", name)
	}
	c.t.Logf("%d fields and values decided pairs", len(c.covered))
}
