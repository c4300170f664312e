package kube

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// standIn takes the place of a policy that cannot be used, nil for kinds
// without which less is allowed, not more. read is what could be read of its
// spec.
func standIn(m config.Meta, text json.RawMessage, read proto.Message) *discovery.Object {
	chosen := read.ProtoReflect().New().Interface()
	selects := readSelection(text, chosen)
	proto.Merge(chosen, onlyAction(read))
	if o, ok := discovery.StandIn(m, chosen, selects); ok {
		return &o
	}
	return nil
}

// onlyAction is a message with the field action of another, if it has one.
func onlyAction(m proto.Message) proto.Message {
	from := m.ProtoReflect()
	out := from.New()
	if fd := from.Descriptor().Fields().ByName("action"); fd != nil && from.Has(fd) {
		out.Set(fd, from.Get(fd))
	}
	return out.Interface()
}

// readSelection reads of a spec whom it is for. It reports false if that
// cannot be told: also if there is nothing that says so, but something unknown
// that may have.
func readSelection(text json.RawMessage, into proto.Message) bool {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil {
		return false
	}
	chosen := map[string]json.RawMessage{}
	unknown := false
	known := into.ProtoReflect().Descriptor().Fields()
	for name, value := range all {
		switch {
		case discovery.InSelection("spec." + name):
			chosen[name] = value
		case known.ByJSONName(name) == nil && known.ByName(protoreflect.Name(name)) == nil:
			unknown = true
		}
	}
	picked, err := json.Marshal(chosen)
	return err == nil && protojson.Unmarshal(picked, into) == nil && (len(chosen) > 0 || !unknown)
}
