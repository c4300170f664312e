package translate

import (
	"fmt"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

type extensionProviderSpec = meshconfig.MeshConfig_ExtensionProvider

// site is where the service of an extension provider is, as the proxies of a
// namespace reach it.
type site struct {
	service *config.Service
	port    config.ServicePort
}

func (p *site) cluster() string { return OutboundCluster(p.port.Number, "", p.service.Hostname) }
func (p *site) host() string    { return p.service.Hostname }

// site finds a provider's service, written [namespace/]host.
func (ix *Index) site(service string, port uint32, namespace string) (*site, bool) {
	ns, host, qualified := strings.Cut(service, "/")
	if !qualified {
		ns, host = "", service
	}
	for _, s := range ix.services.all[plainHost(host)] {
		p, ok := s.Port(port)
		if !ok || qualified && s.Namespace != ns || !s.ExportTo.To(namespace) {
			continue
		}
		return &site{service: s, port: p}, true
	}
	return nil, false
}

// target is the service that a provider of logs or traces sends to.
type target struct {
	service string
	port    uint32
}

// targetOf is where a provider sends to; ok is false for one that sends
// nowhere by itself, such as to a file.
func targetOf(p *extensionProviderSpec) (t target, ok bool) {
	var x interface {
		GetService() string
		GetPort() uint32
	}
	switch {
	case p.GetEnvoyHttpAls() != nil:
		x = p.GetEnvoyHttpAls()
	case p.GetEnvoyTcpAls() != nil:
		x = p.GetEnvoyTcpAls()
	case p.GetEnvoyOtelAls() != nil:
		x = p.GetEnvoyOtelAls()
	case p.GetOpentelemetry() != nil:
		x = p.GetOpentelemetry()
	case p.GetZipkin() != nil:
		x = p.GetZipkin()
	case p.GetDatadog() != nil:
		x = p.GetDatadog()
	case p.GetSkywalking() != nil:
		x = p.GetSkywalking()
	case p.GetLightstep() != nil: //nolint:staticcheck // deprecated in the API, still in use
		x = p.GetLightstep() //nolint:staticcheck // see above
	default:
		return target{}, false
	}
	return target{x.GetService(), x.GetPort()}, true
}

// speaksGRPC reports whether a provider is sent gRPC, which its port must be
// known to take.
func speaksGRPC(p *extensionProviderSpec) bool {
	return p.GetEnvoyHttpAls() != nil || p.GetEnvoyTcpAls() != nil || p.GetEnvoyOtelAls() != nil || p.GetSkywalking() != nil ||
		p.GetLightstep() != nil || //nolint:staticcheck // deprecated in the API, still in use
		p.GetOpentelemetry() != nil && p.GetOpentelemetry().GetHttp() == nil
}

// uses are what Telemetry can name a provider for.
type use int

const (
	useMetrics use = iota
	useTracing
	useLogs
)

func (u use) String() string { return [...]string{"metrics", "tracing", "access logs"}[u] }

// serves reports whether a kind of provider is for a use. Those that stock
// Envoys no longer have anything for serve none.
func (u use) serves(p *extensionProviderSpec) bool {
	switch u {
	case useMetrics:
		return p.GetPrometheus() != nil
	case useTracing:
		return p.GetOpentelemetry() != nil || p.GetZipkin() != nil || p.GetDatadog() != nil || p.GetSkywalking() != nil ||
			p.GetLightstep() != nil //nolint:staticcheck // deprecated in the API, still in use
	default:
		return p.GetEnvoyFileAccessLog() != nil || p.GetEnvoyHttpAls() != nil || p.GetEnvoyTcpAls() != nil || p.GetEnvoyOtelAls() != nil
	}
}

// The extension providers that exist without being configured: access logs in
// the mesh's format on standard output, and standard metrics.
const (
	builtinLog     = "envoy"
	builtinMetrics = "prometheus"
)

// provider finds one by its name, in any case.
func provider(mesh *meshconfig.MeshConfig, name string) *extensionProviderSpec {
	for _, p := range mesh.GetExtensionProviders() {
		if strings.EqualFold(p.GetName(), name) {
			return p
		}
	}
	switch name {
	case builtinLog:
		return &extensionProviderSpec{Name: name, Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyFileAccessLog{
			EnvoyFileAccessLog: &fileLogProvider{},
		}}
	case builtinMetrics:
		return &extensionProviderSpec{Name: name, Provider: &meshconfig.MeshConfig_ExtensionProvider_Prometheus{
			Prometheus: &meshconfig.MeshConfig_ExtensionProvider_PrometheusMetricsProvider{},
		}}
	}
	return nil
}

// targetFault says why a provider's target cannot be one, or nothing.
func targetFault(t target) string {
	switch {
	case t.service == "":
		return "names no service"
	case t.port < 1 || t.port > 65535:
		return fmt.Sprintf("has port %d; want one from 1 to 65535", t.port)
	}
	return ""
}

// providerFault says why a name cannot be used as a provider for something, or
// nothing.
func providerFault(mesh *meshconfig.MeshConfig, name string, u use) (code, text string) {
	p := provider(mesh, name)
	switch {
	case p == nil:
		return "ProviderNotFound", "is " + shown(name) + ", which extensionProviders does not have"
	case p.GetStackdriver() != nil:
		return "ProviderUnsupported", "is " + shown(name) + ": " + noStackdriver
	case p.GetOpencensus() != nil: //nolint:staticcheck // deprecated in the API, still read
		return "ProviderUnsupported", "is " + shown(name) + ": " + noOpenCensus
	case !u.serves(p):
		return "ProviderMismatch", "is " + shown(name) + ", a provider that is not for " + u.String()
	}
	if t, ok := targetOf(p); ok && targetFault(t) != "" {
		return "ProviderInvalid", "is " + shown(name) + ", which " + targetFault(t)
	}
	return "", ""
}

// providerFault says the same of the proxies of a namespace, which must reach
// the provider's service.
func (ix *Index) providerFault(name string, u use, namespace string) (code, text string) {
	mesh := ix.mesh.Settings.Mesh
	if code, text = providerFault(mesh, name, u); code != "" {
		return code, text
	}
	t, ok := targetOf(provider(mesh, name))
	if !ok || namespace == "" {
		return "", ""
	}
	if _, found := ix.site(t.service, t.port, namespace); !found {
		return "ServiceNotFound", fmt.Sprintf("is %s, but no service %s with port %d is visible from namespace %s", shown(name), shown(t.service), t.port, namespace)
	}
	return "", ""
}
