package translate

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// pointers are the fields by which Envoy's messages name clusters and route
// tables.
var pointers = map[protoreflect.FullName]bool{ // true: a cluster
	"envoy.config.route.v3.RouteAction.cluster":                                                 true,
	"envoy.config.route.v3.RouteAction.RequestMirrorPolicy.cluster":                             true,
	"envoy.config.route.v3.WeightedCluster.ClusterWeight.name":                                  true,
	"envoy.config.core.v3.GrpcService.EnvoyGrpc.cluster_name":                                   true,
	"envoy.config.core.v3.HttpUri.cluster":                                                      true,
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.cluster":                            true,
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight.name": true,
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds.route_config_name":         false,
	"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy.PrefixRoutes.Route.cluster":     true,
}

// refsWithin adds to refs what a message points to after patches changed it.
func refsWithin(m proto.Message, refs Refs) Refs {
	c := refCollector{slices.Clone(refs.Clusters), slices.Clone(refs.Routes), slices.Clone(refs.Secrets)}
	c.walk(m.ProtoReflect())
	return c.refs()
}

func (r *refCollector) walk(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := a.UnmarshalNew(); err == nil {
			r.walk(inner.ProtoReflect())
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch cluster, ok := pointers[fd.FullName()]; {
		case ok && cluster:
			r.clusters = append(r.clusters, v.String())
		case ok:
			r.routes = append(r.routes, v.String())
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { r.walk(e.Message()); return true })
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				r.walk(v.List().Get(i).Message())
			}
		default:
			r.walk(v.Message())
		}
		return true
	})
}

// offered leaves of a patched resource's clusters those that there are: a patch
// may name one of the proxy's bootstrap, or none at all.
func offered(r *Resource, clusters map[string]bool) *Resource {
	missing := func(name string) bool { return !clusters[name] }
	if !slices.ContainsFunc(r.Refs.Clusters, missing) {
		return r
	}
	out := *r
	out.Refs.Clusters = slices.DeleteFunc(slices.Clone(r.Refs.Clusters), missing)
	return &out
}
