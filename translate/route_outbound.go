package translate

import (
	networking "istio.io/api/networking/v1alpha3"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// routeEnv is what every route of a scope depends on besides its own objects.
type routeEnv struct {
	class     *Class
	labels    map[string]string
	dnsDomain string
	retries   *networking.HTTPRetry
	// attemptCount adds x-envoy-attempt-count, forwardedHost adds
	// x-forwarded-host where the authority is rewritten (ProxyConfig.proxyHeaders).
	attemptCount, forwardedHost bool
	grpc                        bool // a proxyless client reads the routes
	withPorts                   bool // the table tells host:port from host
	// traced: there are spans, which decorators name, or patches may ask for
	// some.
	traced bool
	hash   config.Hash
}

func (b *build) newRouteEnv(withPorts bool) *routeEnv {
	s := b.scope
	headers := s.proxyConfig().GetProxyHeaders()
	env := &routeEnv{
		class: &s.Class, labels: s.Labels, dnsDomain: s.Class.Traits.DNSDomain,
		retries:       s.Settings.Mesh.GetDefaultHttpRetryPolicy(),
		attemptCount:  !headers.GetAttemptCount().GetDisabled().GetValue(),
		forwardedHost: headers.GetXForwardedHost().GetEnabled().GetValue(),
		grpc:          s.Class.Traits.Generator == grpcGenerator,
	}
	env.withPorts = withPorts || env.grpc
	env.traced = len(s.patches) > 0 || !env.grpc && s.telemetry.traces(s.Settings.Mesh, s.proxyConfig())
	h := config.NewHasher().Bool(env.traced).Bool(env.attemptCount).Bool(env.forwardedHost).Bool(env.grpc).Bool(env.withPorts)
	if env.retries != nil {
		h.Proto(env.retries)
	}
	env.hash = h.Sum()
	return env
}

// outboundRoutes fills the tables that a sidecar's listeners ask for.
func (b *build) outboundRoutes() {
	done := map[string]bool{}
	for i := range b.tables {
		t := &b.tables[i]
		if done[t.Name] {
			continue
		}
		done[t.Name] = true
		if r := b.outboundTable(t); r != nil {
			b.routes = append(b.routes, r)
		}
	}
}

func (b *build) outboundTable(t *routeTable) *Resource {
	// A listener for every port tells services apart by the port of the Host
	// header; elsewhere the port has been decided already.
	env := b.newRouteEnv(t.Port == 0)
	if t.Only != nil {
		made := b.outboundVhost(t, env, &vhostInputs(t)[0])
		b.problems = append(b.problems, made.problems...)
		parts := []*vhostPart{made.part}
		clusters, sources := clustersAndSources(parts)
		return b.spliceRoutes(t.Name, parts, !env.withPorts, clusters, sources)
	}
	parts, clusters, sources := b.tableParts(t, env)
	return b.spliceRoutes(t.Name, parts, !env.withPorts, clusters, sources)
}

// catchAll answers for hosts that nobody names: on to where the connection
// was going, to where the host resolves, to the egress proxy, or 502.
func (b *build) catchAll(env *routeEnv) madeVhost {
	policy := b.scope.OutboundPolicy
	vh := &route.VirtualHost{Name: BlackHoleRoute, IncludeRequestAttemptCount: env.attemptCount}
	r := &route.Route{Name: BlackHoleRoute, Match: anyPath()}
	vh.Routes = []*route.Route{r}
	d := domains{names: []string{"*"}, proper: 1}
	if !policy.AllowsAny() {
		r.Action = &route.Route_DirectResponse{DirectResponse: &route.DirectResponseAction{Status: 502}}
		return b.encodeVhost(vh, d, nil)
	}
	vh.Name, r.Name = PassthroughRoute, PassthroughRoute
	cluster := b.scope.unknownCluster()
	if policy.DynamicDNS {
		vh.Name, r.Name, cluster = DynamicDNSRoute, DynamicDNSRoute, AllowAnyDynamicDNSCluster
	}
	action := &route.RouteAction{
		ClusterSpecifier:     &route.RouteAction_Cluster{Cluster: cluster},
		AppendXForwardedHost: env.forwardedHost,
	}
	setTimeout(action, nil, env)
	r.Action = &route.Route_Route{Route: action}
	return b.encodeVhost(vh, d, []string{cluster})
}

func anyPath() *route.RouteMatch {
	return &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}}
}

// defaultRoute leads every request to one cluster.
func defaultRoute(cluster, host string, port uint32, env *routeEnv) *route.Route {
	action := &route.RouteAction{
		ClusterSpecifier: &route.RouteAction_Cluster{Cluster: cluster},
		RetryPolicy:      retryPolicy(env.retries, false),
	}
	setTimeout(action, nil, env)
	r := &route.Route{Name: "default", Match: anyPath(), Action: &route.Route_Route{Route: action}}
	if env.traced {
		r.Decorator = &route.Decorator{Operation: vhostName(host, port) + "/*"}
	}
	return r
}

// setTimeout limits a request in seconds; without a limit it may take for
// ever, and a gRPC client's own limit is honoured either way.
func setTimeout(a *route.RouteAction, limit *durationpb.Duration, env *routeEnv) {
	if limit == nil {
		limit = &durationpb.Duration{}
	}
	a.Timeout = limit
	if env.grpc {
		a.MaxStreamDuration = &route.RouteAction_MaxStreamDuration{MaxStreamDuration: limit}
		return
	}
	a.MaxGrpcTimeout = limit //nolint:staticcheck // max_stream_duration bounds streams, not only their first response
}
