package inputs

import (
	"context"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// Bare is one state of a configuration without places: two of them differ in
// nothing but content. Workloads keep their places, since no resource says
// where they stand.
type Bare struct {
	Mesh *config.Mesh
	// Places are those of the objects that were given.
	Places map[config.Key]Place

	given     []*discovery.Object
	addresses *addresses
	layer     *layer
}

// Place is where an object stands.
type Place struct {
	File string
	Line int
}

// LoadBare is Load without places.
func LoadBare(ctx context.Context, o Options) (*Bare, error) {
	texts, problems, err := Texts(ctx, o)
	if err != nil {
		return nil, err
	}
	memory := o.Memory
	if memory == nil {
		memory = file.NewMemory(o.Validate)
	}
	b := &Bare{Places: map[config.Key]Place{}, addresses: newAddresses()}
	if b.layer, err = o.layer(ctx); err != nil {
		return nil, err
	}
	var more []config.Problem
	b.given, more = memory.Given(texts)
	for _, object := range b.given {
		b.Places[object.Meta.Key] = Place{object.Meta.File, object.Meta.Line}
	}
	b.Mesh = b.hold(b.given, append(problems, more...))
	return b, nil
}

// hold is the mesh of objects, with what a cluster makes of them.
func (b *Bare) hold(given []*discovery.Object, problems []config.Problem) *config.Mesh {
	changes, more := file.InCluster(given, b.addresses.of)
	for i := range changes {
		object := &changes[i].Object
		if _, istio := object.Body.(proto.Message); istio || object.Meta.Kind == "Service" {
			object.Meta.File, object.Meta.Line, object.Meta.Lines = "", 0, nil
		}
	}
	return b.layer.hold(changes, append(problems, more...))
}

// Change is one object that two states have otherwise.
type Change struct {
	Object config.Key
	How    string // added, removed or changed
}

// Changed are the objects that another state has, lacks, or has with another
// content, in the order of the files.
func (b *Bare) Changed(after *Bare) []Change {
	was, is := byKey(b.given), byKey(after.given)
	var out []Change
	for _, o := range after.given {
		if had := was[o.Meta.Key]; had == nil {
			out = append(out, Change{o.Meta.Key, "added"})
		} else if !sameContent(had, o) {
			out = append(out, Change{o.Meta.Key, "changed"})
		}
	}
	for _, o := range b.given {
		if is[o.Meta.Key] == nil {
			out = append(out, Change{o.Meta.Key, "removed"})
		}
	}
	return out
}

// With is the configuration with some objects as another state has them, and
// the others as they are. Not safe for concurrent use.
func (b *Bare) With(after *Bare, taken []config.Key) *config.Mesh {
	is := byKey(after.given)
	takes := map[config.Key]bool{}
	for _, k := range taken {
		takes[k] = true
	}
	var given []*discovery.Object
	for _, o := range b.given {
		if !takes[o.Meta.Key] {
			given = append(given, o)
		}
	}
	for _, k := range taken {
		if o := is[k]; o != nil {
			given = append(given, o)
		}
	}
	return b.hold(given, nil)
}

func byKey(objects []*discovery.Object) map[config.Key]*discovery.Object {
	out := make(map[config.Key]*discovery.Object, len(objects))
	for _, o := range objects {
		out[o.Meta.Key] = o
	}
	return out
}

// sameContent reports whether two objects differ in nothing but their places.
func sameContent(a, b *discovery.Object) bool {
	x, y := a.Meta, b.Meta
	for _, m := range []*config.Meta{&x, &y} {
		m.File, m.Line, m.Lines, m.Hash, m.ResourceVersion = "", 0, nil, 0, ""
	}
	if !reflect.DeepEqual(x, y) {
		return false
	}
	was, isProto := a.Body.(proto.Message)
	is, bothProto := b.Body.(proto.Message)
	if isProto && bothProto {
		return proto.Equal(was, is)
	}
	return a.Body == b.Body || reflect.DeepEqual(a.Body, b.Body)
}
