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
	proto.Merge(chosen, onlyStrictness(text, read.ProtoReflect().Type()))
	if o, ok := discovery.StandIn(m, chosen, selects); ok {
		return &o
	}
	return nil
}

// strictness are the fields that say how strict the least is that an object can
// mean.
var strictness = []string{"action", "failStrategy", "type", "phase", "match", "wasm", "lua"}

// onlyStrictness is a message of a type with those of the fields in text that
// can be read, each by itself.
func onlyStrictness(text json.RawMessage, of protoreflect.MessageType) proto.Message {
	out := of.New().Interface()
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil {
		return out
	}
	for _, name := range strictness {
		one := of.New().Interface()
		if field, err := json.Marshal(map[string]json.RawMessage{name: all[name]}); err == nil && all[name] != nil && lenient.Unmarshal(field, one) == nil {
			proto.Merge(out, one)
		}
	}
	return out
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
