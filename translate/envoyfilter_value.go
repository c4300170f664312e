package translate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	networking "istio.io/api/networking/v1alpha3"
)

var jsonPlace = regexp.MustCompile(`\(line \d+:\d+\): `)

var errPatternLong = fmt.Errorf("is longer than %d characters", longestPattern)

// patchedMessage is what an entry of configPatches is applied to; nil for what
// this program does not know.
func patchedMessage(to networking.EnvoyFilter_ApplyTo) proto.Message {
	switch to {
	case networking.EnvoyFilter_LISTENER:
		return &listener.Listener{}
	case networking.EnvoyFilter_FILTER_CHAIN:
		return &listener.FilterChain{}
	case networking.EnvoyFilter_NETWORK_FILTER:
		return &listener.Filter{}
	case networking.EnvoyFilter_LISTENER_FILTER:
		return &listener.ListenerFilter{}
	case networking.EnvoyFilter_HTTP_FILTER:
		return &hcm.HttpFilter{}
	case networking.EnvoyFilter_ROUTE_CONFIGURATION:
		return &route.RouteConfiguration{}
	case networking.EnvoyFilter_VIRTUAL_HOST:
		return &route.VirtualHost{}
	case networking.EnvoyFilter_HTTP_ROUTE:
		return &route.Route{}
	case networking.EnvoyFilter_CLUSTER:
		return &cluster.Cluster{}
	case networking.EnvoyFilter_EXTENSION_CONFIG:
		return &core.TypedExtensionConfig{}
	case networking.EnvoyFilter_BOOTSTRAP:
		return &bootstrap.Bootstrap{}
	}
	return nil
}

// patchValue reads a patch's value as the message that it is for; nil where
// the operation takes none.
func patchValue(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) (proto.Message, error) {
	m := patchedMessage(p.GetApplyTo())
	if m == nil || p.GetPatch().GetOperation() == networking.EnvoyFilter_Patch_REMOVE {
		return nil, nil
	}
	if p.GetPatch().GetValue() == nil {
		return nil, errors.New("is not set; want the Envoy configuration to put in")
	}
	md := m.ProtoReflect().Descriptor()
	value := new(istioJSON).message("", md, p.GetPatch().GetValue())
	if err := readAs(m, value); err != nil {
		return nil, faultOf(md, value, err)
	}
	return m, nil
}

// unreadFields are the fields of a patch's value that Envoy does not have, so that
// patchValue leaves them out; in order.
func unreadFields(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) []unknownField {
	m := patchedMessage(p.GetApplyTo())
	if m == nil || p.GetPatch().GetOperation() == networking.EnvoyFilter_Patch_REMOVE {
		return nil
	}
	var j istioJSON
	j.message("", m.ProtoReflect().Descriptor(), p.GetPatch().GetValue())
	slices.SortFunc(j.unknown, func(a, b unknownField) int { return strings.Compare(a.path, b.path) })
	return j.unknown
}

// merge lays a patch's value over dst, which becomes what the patch means;
// value stays as it is.
func (p *patch) merge(dst, value proto.Message) error {
	return mergeMode(p.operation()).message(dst.ProtoReflect(), proto.Clone(value).ProtoReflect())
}

// mergeMode is MERGE or MERGE_AND_REPLACE_LIST. Set fields replace, messages merge
// field by field, and an Any merges with one of the same type; lists are
// appended to, or replaced.
type mergeMode networking.EnvoyFilter_Patch_Operation

func (o mergeMode) message(dst, src protoreflect.Message) error {
	if any, ok := dst.Interface().(*anypb.Any); ok {
		over, _ := src.Interface().(*anypb.Any)
		return o.any(any, over)
	}
	if replacedWhole(dst.Descriptor()) {
		proto.Reset(dst.Interface())
		proto.Merge(dst.Interface(), src.Interface())
		return nil
	}
	var failed error
	src.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList():
			if networking.EnvoyFilter_Patch_Operation(o) == networking.EnvoyFilter_Patch_MERGE_AND_REPLACE_LIST {
				dst.Clear(fd)
			}
			list := dst.Mutable(fd).List()
			for i := range v.List().Len() {
				list.Append(v.List().Get(i))
			}
		case fd.IsMap():
			failed = o.entries(dst.Mutable(fd).Map(), v.Map(), fd.MapValue().Message() != nil)
		case fd.Message() != nil && dst.Has(fd):
			failed = o.message(dst.Mutable(fd).Message(), v.Message())
		default:
			dst.Set(fd, v)
		}
		return failed == nil
	})
	return failed
}

func (o mergeMode) entries(dst, src protoreflect.Map, messages bool) (failed error) {
	src.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if messages && dst.Has(k) {
			failed = o.message(dst.Mutable(k).Message(), v.Message())
		} else {
			dst.Set(k, v)
		}
		return failed == nil
	})
	return failed
}

// replacedWhole: the parts of these mean nothing alone.
func replacedWhole(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.Duration", "google.protobuf.Timestamp":
		return true
	}
	return md.FullName().Parent() == "google.protobuf" && strings.HasSuffix(string(md.Name()), "Value") && md.Name() != "Value"
}

func (o mergeMode) any(dst, src *anypb.Any) error {
	if dst.GetTypeUrl() != src.GetTypeUrl() {
		dst.TypeUrl, dst.Value = src.GetTypeUrl(), src.GetValue()
		return nil
	}
	below, err := dst.UnmarshalNew()
	if err != nil {
		return err
	}
	over, err := src.UnmarshalNew()
	if err != nil {
		return err
	}
	if err := o.message(below.ProtoReflect(), over.ProtoReflect()); err != nil {
		return err
	}
	return anypb.MarshalFrom(dst, below, proto.MarshalOptions{Deterministic: true})
}

// validateDeep runs the messages' own validation, also of those in Anys.
func validateDeep(m protoreflect.Message) error {
	if v, ok := m.Interface().(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return err
		}
	}
	return validateAnys(m)
}

func validateAnys(m protoreflect.Message) error {
	if a, ok := m.Interface().(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("%s: %w", a.GetTypeUrl(), err)
		}
		return validateDeep(inner.ProtoReflect())
	}
	var failed error
	visit := func(v protoreflect.Value) bool {
		failed = validateAnys(v.Message())
		return failed == nil
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { return visit(e) })
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; i < v.List().Len() && failed == nil; i++ {
				visit(v.List().Get(i))
			}
		default:
			visit(v)
		}
		return failed == nil
	})
	return failed
}
