package translate

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	lua "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	httpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	extensions "istio.io/api/extensions/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// modulesCluster is where an agent serves ECDS with the modules in place (the
// bootstrap's pilotfish-modules).
const modulesCluster = "pilotfish-modules"

// modulePatience is how long a listener waits for an extension. The agent
// answers sooner, with what stands in for a module that it does not have.
const modulePatience = 20 * time.Second

// extensionPhases in the order in which traffic comes through them: before what
// authenticates, between that and what authorizes, after that, and at the end.
type extensionPhase = extensions.TrafficExtension_ExecutionPhase

const (
	beforeTokens = extensions.TrafficExtension_AUTHN
	beforeAccess = extensions.TrafficExtension_AUTHZ
	afterAccess  = extensions.TrafficExtension_STATS
	atTheEnd     = extensions.TrafficExtension_UNSPECIFIED
)

// phaseOf is an extension's phase; a number that the API does not name counts
// as none.
func (x *extension) phaseOf() extensionPhase {
	if _, known := extensions.TrafficExtension_ExecutionPhase_name[int32(x.spec.GetPhase())]; !known {
		return atTheEnd
	}
	return x.spec.GetPhase()
}

// chosen are the extensions of a phase for the chain at hand.
func (t *listenerTexts) chosen(phase extensionPhase, connections bool) []*extension {
	var out []*extension
	for _, x := range t.env.extensions {
		if x.phaseOf() == phase && x.ofConnections() == connections && x.takes(t.env.side, t.port) {
			out = append(out, x)
		}
	}
	return out
}

// requestExtensions are filters of requests.
func (t *listenerTexts) requestExtensions(phase extensionPhase) []*hcm.HttpFilter {
	var out []*hcm.HttpFilter
	for _, x := range t.chosen(phase, false) {
		out = append(out, &hcm.HttpFilter{Name: x.name(), ConfigType: &hcm.HttpFilter_ConfigDiscovery{
			ConfigDiscovery: t.env.discovered(x, &httprbac.RBAC{}, &httpwasm.Wasm{}, &lua.Lua{}),
		}})
	}
	return out
}

// connectionExtensions are filters of connections.
func (t *listenerTexts) connectionExtensions(phases ...extensionPhase) []*listener.Filter {
	var out []*listener.Filter
	for _, phase := range phases {
		for _, x := range t.chosen(phase, true) {
			out = append(out, &listener.Filter{Name: x.name(), ConfigType: &listener.Filter_ConfigDiscovery{
				ConfigDiscovery: t.env.discovered(x, &tcprbac.RBAC{StatPrefix: tcpAccessStats}, &tcpwasm.Wasm{}),
			}})
		}
	}
	return out
}

// discovered is an extension's configuration over ECDS: of itself, or of what
// refuses or lets pass in its stead (open). A listener with an extension that
// Envoy does not take stays a good listener: the filter then refuses, unless it
// fails open.
func (e *listenerEnv) discovered(x *extension, open proto.Message, others ...proto.Message) *core.ExtensionConfigSource {
	out := &core.ExtensionConfigSource{ConfigSource: e.moduleSource(x)}
	for _, m := range append([]proto.Message{open}, others...) {
		out.TypeUrls = append(out.TypeUrls, "type.googleapis.com/"+string(m.ProtoReflect().Descriptor().FullName()))
	}
	if x.spec.GetWasm().GetFailStrategy() == extensions.FailStrategy_FAIL_OPEN {
		out.DefaultConfig = packed(open)
	}
	return out
}

// moduleSource is the agent, where there is one that fetches modules. Others
// see to that on the stream of ADS, as Istio's agent does.
func (e *listenerEnv) moduleSource(x *extension) *core.ConfigSource {
	if !e.traits.Modules || !x.remote() {
		out := adsConfig()
		out.InitialFetchTimeout = durationpb.New(modulePatience)
		return out
	}
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(modulePatience),
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_GRPC, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: modulesCluster},
			}}},
		}},
	}
}

// extensionConfigs adds the extensions' configurations to the build.
func (b *build) extensionConfigs() {
	for _, x := range b.scope.extensions {
		m := &core.TypedExtensionConfig{Name: x.name(), TypedConfig: x.config()}
		r, err := NewResource(m.Name, m, Refs{}, x.meta)
		if err != nil {
			b.problems = append(b.problems, unencodable(m.Name, err, []*config.Meta{x.meta}))
			continue
		}
		b.extensions = append(b.extensions, r)
	}
}

func (x *extension) config() *anypb.Any {
	w := x.spec.GetWasm()
	switch {
	case x.meta.StandsIn != config.StandsInForNothing && x.ofConnections():
		return packed(&tcprbac.RBAC{StatPrefix: tcpAccessStats, Rules: &rbac.RBAC{}}) // without rules that allow
	case x.meta.StandsIn != config.StandsInForNothing:
		return packed(&httprbac.RBAC{Rules: &rbac.RBAC{}})
	case x.spec.GetLua() != nil:
		return packed(&lua.Lua{DefaultSourceCode: &core.DataSource{
			Specifier: &core.DataSource_InlineString{InlineString: x.spec.GetLua().GetInlineCode()},
		}})
	case x.ofConnections():
		return packed(&tcpwasm.Wasm{Config: x.plugin(w)})
	}
	return packed(&httpwasm.Wasm{Config: x.plugin(w)})
}

func (x *extension) plugin(w *extensions.WasmConfig) *wasm.PluginConfig {
	out := &wasm.PluginConfig{
		Name: x.name(), RootId: w.GetPluginName(),
		Vm: &wasm.PluginConfig_VmConfig{VmConfig: &wasm.VmConfig{
			Runtime: "envoy.wasm.runtime.v8", Code: x.code(), EnvironmentVariables: x.environment(),
		}},
		FailurePolicy: wasm.FailurePolicy_FAIL_CLOSED,
	}
	switch w.GetFailStrategy() {
	case extensions.FailStrategy_FAIL_OPEN:
		out.FailurePolicy = wasm.FailurePolicy_FAIL_OPEN
	case extensions.FailStrategy_FAIL_RELOAD:
		out.FailurePolicy = wasm.FailurePolicy_FAIL_RELOAD
	}
	if c := w.GetPluginConfig(); c != nil {
		out.Configuration = packed(configurationText(c))
	}
	return out
}
