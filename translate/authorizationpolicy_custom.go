package translate

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpauthz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tcpauthz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	security "istio.io/api/security/v1beta1"
)

const (
	httpAuthorizer = "envoy.filters.http.ext_authz"
	tcpAuthorizer  = "envoy.filters.network.ext_authz"
	// askPrefix is before the names of statistics and metadata that the rules
	// of CUSTOM policies leave, and askRule before the rules' own names.
	askPrefix = "istio_ext_authz_"
	askRule   = "istio-ext-authz-"
	// askTimeout is the provider's default.
	askTimeout = 600 * time.Second
)

// asked are the CUSTOM rules of one provider. Each rule's name begins with
// that of its provider, so that the filter after it knows whether to ask. Of
// connections whose provider only judges requests, those rules count that do
// not speak of requests.
func (t *listenerTexts) asked(provider string, connections, requestsOnly bool) *rbac.RBAC {
	out := &rbac.RBAC{Action: rbac.RBAC_DENY, Policies: map[string]*rbac.Policy{}}
	for _, p := range t.env.policies.access.policies {
		if p.Spec.GetAction() == security.AuthorizationPolicy_CUSTOM && p.Spec.GetProvider().GetName() == provider && !dryRun(p) {
			w := newRuleWriter(p, trustDomains(t.env.mesh), connections)
			w.allows = requestsOnly
			maps.Copy(out.Policies, w.policies(askRule+provider+"-"))
		}
	}
	return out
}

// authorizerFilters ask external authorizers about the requests that CUSTOM
// policies name, one after the other if there are several. Who cannot be asked
// refuses.
func (t *listenerTexts) authorizerFilters() []*hcm.HttpFilter {
	var out []*hcm.HttpFilter
	for _, name := range sortedKeys(t.env.policies.access.providers) {
		rules, a := t.asked(name, false, false), t.env.policies.access.providers[name]
		if a == nil {
			out = append(out, httpFilter(httpAccessFilter, &httprbac.RBAC{Rules: rules})...)
			continue
		}
		t.refs.clusters = append(t.refs.clusters, a.cluster)
		out = append(out, httpFilter(httpAccessFilter, &httprbac.RBAC{ShadowRules: rules, ShadowRulesStatPrefix: askPrefix})...)
		out = append(out, httpFilter(httpAuthorizer, a.http(name))...)
	}
	return out
}

// connectionAuthorizers is authorizerFilters for connections, of which only
// gRPC authorizers can judge.
func (t *listenerTexts) connectionAuthorizers() []*listener.Filter {
	var out []*listener.Filter
	for _, name := range sortedKeys(t.env.policies.access.providers) {
		a := t.env.policies.access.providers[name]
		rules := t.asked(name, true, a != nil && a.provider.GetEnvoyExtAuthzHttp() != nil)
		if a == nil || a.provider.GetEnvoyExtAuthzGrpc() == nil {
			out = append(out, networkFilter(tcpAccessFilter, &tcprbac.RBAC{Rules: rules, StatPrefix: tcpAccessStats}))
			continue
		}
		t.refs.clusters = append(t.refs.clusters, a.cluster)
		out = append(out,
			networkFilter(tcpAccessFilter, &tcprbac.RBAC{ShadowRules: rules, ShadowRulesStatPrefix: askPrefix, StatPrefix: tcpAccessStats}),
			networkFilter(tcpAuthorizer, a.tcp(name)))
	}
	return out
}

// askedBy is the condition under which a provider is asked.
func askedBy(provider, filter string) *matcher.MetadataMatcher {
	return metadataAt(filter, []string{askPrefix + "shadow_effective_policy_id"}, textValue(beginning(askRule+provider+"-ns[")))
}

func (a *authorizer) http(name string) *httpauthz.ExtAuthz {
	out := &httpauthz.ExtAuthz{TransportApiVersion: core.ApiVersion_V3, FilterEnabledMetadata: askedBy(name, httpAccessFilter)}
	if p := a.provider.GetEnvoyExtAuthzGrpc(); p != nil {
		out.Services = &httpauthz.ExtAuthz_GrpcService{GrpcService: a.grpc()}
		out.FailureModeAllow, out.ClearRouteCache = p.GetFailOpen(), p.GetClearRouteCache()
		out.StatusOnError = statusOf(p.GetStatusOnError())
		out.WithRequestBody = bodyOf(p.GetIncludeRequestBodyInCheck())
		return out
	}
	p := a.provider.GetEnvoyExtAuthzHttp()
	service := &httpauthz.HttpService{
		PathPrefix: p.GetPathPrefix(),
		ServerUri: &core.HttpUri{
			Uri: "http://" + a.host, Timeout: timeoutOf(p.GetTimeout()),
			HttpUpstreamType: &core.HttpUri_Cluster{Cluster: a.cluster},
		},
	}
	for _, k := range sortedKeys(p.GetIncludeAdditionalHeadersInCheck()) {
		if service.AuthorizationRequest == nil {
			service.AuthorizationRequest = &httpauthz.AuthorizationRequest{}
		}
		service.AuthorizationRequest.HeadersToAdd = append(service.AuthorizationRequest.HeadersToAdd,
			&core.HeaderValue{Key: k, Value: p.GetIncludeAdditionalHeadersInCheck()[k]})
	}
	upstream, refused, allowed := p.GetHeadersToUpstreamOnAllow(), p.GetHeadersToDownstreamOnDeny(), p.GetHeadersToDownstreamOnAllow()
	if len(upstream)+len(refused)+len(allowed) > 0 {
		service.AuthorizationResponse = &httpauthz.AuthorizationResponse{
			AllowedUpstreamHeaders: headerNames(upstream), AllowedClientHeaders: headerNames(refused),
			AllowedClientHeadersOnSuccess: headerNames(allowed),
		}
	}
	include := p.GetIncludeRequestHeadersInCheck()
	if len(include) == 0 {
		include = p.GetIncludeHeadersInCheck() //nolint:staticcheck // deprecated in the API, still in use
	}
	out.Services = &httpauthz.ExtAuthz_HttpService{HttpService: service}
	out.AllowedHeaders = headerNames(include)
	out.FailureModeAllow, out.ClearRouteCache = p.GetFailOpen(), p.GetClearRouteCache()
	out.StatusOnError = statusOf(p.GetStatusOnError())
	out.WithRequestBody = bodyOf(p.GetIncludeRequestBodyInCheck())
	return out
}

func (a *authorizer) tcp(name string) *tcpauthz.ExtAuthz {
	return &tcpauthz.ExtAuthz{
		StatPrefix: tcpAccessStats, TransportApiVersion: core.ApiVersion_V3, GrpcService: a.grpc(),
		FailureModeAllow:      a.provider.GetEnvoyExtAuthzGrpc().GetFailOpen(),
		FilterEnabledMetadata: askedBy(name, tcpAccessFilter),
	}
}

func (a *authorizer) grpc() *core.GrpcService {
	return &core.GrpcService{
		TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: a.cluster, Authority: a.host}},
		Timeout:         timeoutOf(a.provider.GetEnvoyExtAuthzGrpc().GetTimeout()),
	}
}

func timeoutOf(d *durationpb.Duration) *durationpb.Duration {
	if d = usable(d); d == nil {
		return durationpb.New(askTimeout)
	}
	return d
}

// statusOf is the answer where the authorizer fails; nil is Envoy's, 403.
func statusOf(s string) *xdstype.HttpStatus {
	n, err := strconv.ParseInt(s, 10, 32)
	if _, known := xdstype.StatusCode_name[int32(n)]; err != nil || !known || n == 0 {
		return nil
	}
	return &xdstype.HttpStatus{Code: xdstype.StatusCode(n)}
}

func bodyOf(b *meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationRequestBody) *httpauthz.BufferSettings {
	if b.GetMaxRequestBytes() == 0 {
		return nil
	}
	return &httpauthz.BufferSettings{
		MaxRequestBytes: b.GetMaxRequestBytes(), AllowPartialMessage: b.GetAllowPartialMessage(), PackAsBytes: b.GetPackAsBytes(),
	}
}

// headerNames match headers in any case, with a wildcard at an end.
func headerNames(names []string) *matcher.ListStringMatcher {
	if len(names) == 0 {
		return nil
	}
	out := &matcher.ListStringMatcher{}
	for _, n := range names {
		m := stringIs(n)
		if kind, _ := wildcardOf(n); kind != wildcardAny {
			m.IgnoreCase = true
		}
		out.Patterns = append(out.Patterns, m)
	}
	return out
}

// authorizerFault says why a provider cannot be asked, or nothing: its rules
// then refuse.
func authorizerFault(p *meshconfig.MeshConfig_ExtensionProvider) string {
	service, port := authorizerService(p)
	status := p.GetEnvoyExtAuthzHttp().GetStatusOnError() + p.GetEnvoyExtAuthzGrpc().GetStatusOnError()
	prefix := p.GetEnvoyExtAuthzHttp().GetPathPrefix()
	switch {
	case p.GetEnvoyExtAuthzHttp() == nil && p.GetEnvoyExtAuthzGrpc() == nil:
		return "is neither envoyExtAuthzHttp nor envoyExtAuthzGrpc"
	case service == "":
		return "names no service"
	case port < 1 || port > 65535:
		return fmt.Sprintf("has port %d; want one from 1 to 65535", port)
	case status != "" && statusOf(status) == nil:
		return "has statusOnError " + shown(status) + "; want an HTTP status"
	case prefix != "" && !strings.HasPrefix(prefix, "/"):
		return "has pathPrefix " + shown(prefix) + "; want one that begins with a slash"
	}
	return ""
}
