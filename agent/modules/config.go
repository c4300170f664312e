package modules

import (
	"fmt"
	"maps"
	"net/url"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	tcpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Variables by which a control plane tells agents, in a module's environment,
// how to fetch it. The names are Istio's.
const (
	secretVariable  = "ISTIO_META_WASM_IMAGE_PULL_SECRET"
	policyVariable  = "ISTIO_META_WASM_IMAGE_PULL_POLICY"
	versionVariable = "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION"
)

// noChecksum stands where there is none.
const noChecksum = "nil"

// defaultTimeout bounds one attempt where the control plane sets no bound.
const defaultTimeout = 30 * time.Second

// module is what must be fetched.
type module struct {
	url *url.URL
	// sum is the SHA-256 of the file, or the digest of the image, in hexadecimal
	// digits; empty if it is not known.
	sum string
	// version, if set, makes another module of the same URL.
	version string
	secret  string // SDS name of the registry's credentials, or empty
	timeout time.Duration
}

// plugin is the configuration of one extension.
type plugin struct {
	whole  *core.TypedExtensionConfig
	filter proto.Message // of requests or of connections
	config *wasm.PluginConfig
	module *module // nil if nothing must be fetched
}

func parse(a *anypb.Any) (*plugin, error) {
	p := &plugin{whole: &core.TypedExtensionConfig{}}
	if err := proto.Unmarshal(a.GetValue(), p.whole); err != nil {
		return nil, err
	}
	switch typed := p.whole.GetTypedConfig(); typed.GetTypeUrl() {
	case typeURL(&httpwasm.Wasm{}):
		m := &httpwasm.Wasm{}
		if err := typed.UnmarshalTo(m); err != nil {
			return nil, err
		}
		p.filter, p.config = m, m.GetConfig()
	case typeURL(&tcpwasm.Wasm{}):
		m := &tcpwasm.Wasm{}
		if err := typed.UnmarshalTo(m); err != nil {
			return nil, err
		}
		p.filter, p.config = m, m.GetConfig()
	}
	remote := p.config.GetVmConfig().GetCode().GetRemote()
	if remote == nil {
		return p, nil
	}
	return p, p.read(remote)
}

// read finds what must be fetched, and takes out what is for agents alone.
func (p *plugin) read(remote *core.RemoteDataSource) error {
	u, err := url.Parse(remote.GetHttpUri().GetUri())
	if err != nil {
		return fmt.Errorf("its module's URL: %w", err)
	}
	p.module = &module{url: u, sum: remote.GetSha256(), timeout: remote.GetHttpUri().GetTimeout().AsDuration()}
	if p.module.sum == noChecksum {
		p.module.sum = ""
	}
	if p.module.timeout <= 0 {
		p.module.timeout = defaultTimeout
	}
	env := p.config.GetVmConfig().GetEnvironmentVariables()
	p.module.secret = env.GetKeyValues()[secretVariable]
	p.module.version = env.GetKeyValues()[versionVariable]
	maps.DeleteFunc(env.GetKeyValues(), func(k, _ string) bool {
		return k == secretVariable || k == policyVariable || k == versionVariable
	})
	return nil
}

func typeURL(m proto.Message) string {
	return "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
}

// with is the configuration with the module in a file.
func (p *plugin) with(file string) *anypb.Any {
	p.config.GetVmConfig().Code = &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Local{
		Local: &core.DataSource{Specifier: &core.DataSource_Filename{Filename: file}},
	}}
	typed, err := anypb.New(p.filter)
	if err != nil {
		panic(err) // it was decoded, so that it can be encoded
	}
	return p.packed(typed)
}

func (p *plugin) open() bool {
	return p.config.GetFailurePolicy() == wasm.FailurePolicy_FAIL_OPEN
}

// standIn is what takes the place of an extension without its module: a filter
// that refuses everything, or nothing where the extension fails open.
func (p *plugin) standIn() *anypb.Any {
	out := &anypb.Any{TypeUrl: requestRBAC}
	if !p.open() {
		out.Value = append(out.Value, rulesWithout...)
	}
	if _, connections := p.filter.(*tcpwasm.Wasm); connections {
		out.TypeUrl, out.Value = connectionRBAC, append(out.Value, statPrefix...)
	}
	return p.packed(out)
}

// Envoy's filters that decide by rules, and their fields as they are encoded:
// the types alone would bring those of routes, and take a tenth of the memory
// that the agent may have. A test reads them as Envoy's messages.
const (
	requestRBAC    = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
	connectionRBAC = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
	rulesWithout   = "\x0a\x00"     // rules: {}, which allow nothing
	statPrefix     = "\x1a\x04tcp." // stat_prefix: "tcp."
)

func (p *plugin) packed(typed *anypb.Any) *anypb.Any {
	out, err := anypb.New(&core.TypedExtensionConfig{Name: p.whole.GetName(), TypedConfig: typed})
	if err != nil {
		panic(err) // the same
	}
	return out
}
