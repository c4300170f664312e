package translate

import (
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkMeshConfig(r *Report, m proto.Message) {
	mc, _ := m.(*meshconfig.MeshConfig)
	for _, p := range []struct {
		field string
		port  int32
	}{
		{"proxyListenPort", mc.GetProxyListenPort()},
		{"proxyInboundListenPort", mc.GetProxyInboundListenPort()},
		{"proxyHttpPort", mc.GetProxyHttpPort()},
	} {
		if p.port < 0 || p.port > 65535 {
			r.ErrorAt(p.field, "PortInvalid", "is %d; want a port from 1 to 65535", p.port)
		}
	}
	if to := mc.GetDefaultConfig().GetEnvoyAccessLogService(); mc.GetEnableEnvoyAccessLogService() && to.GetAddress() == "" {
		r.WarnAt("enableEnvoyAccessLogService", "NoEffect", "has no effect on proxies whose ProxyConfig has no envoyAccessLogService.address; set it in defaultConfig")
	}
	checkLogFormats(r, mc)
	checkDefaultProviders(r, mc)
}

// checkLogFormats tests the formats of access logs: one that Envoy refuses
// would take every listener with it, so the default format is used instead.
func checkLogFormats(r *Report, mc *meshconfig.MeshConfig) {
	text := func(field, format string) {
		if fault := logFault(format); fault != "" {
			r.ErrorAt(field, "FormatInvalid", "is %s, %s; the default format is used", shown(format), fault)
		}
	}
	fields := func(field string, labels *structpb.Struct) {
		if fault := fieldsFault(structpb.NewStructValue(labels)); fault != "" {
			r.ErrorAt(field, "FormatInvalid", "has a value %s; the default format is used", fault)
		}
	}
	switch f := mc.GetAccessLogFormat(); {
	case mc.GetAccessLogEncoding() != meshconfig.MeshConfig_JSON:
		text("accessLogFormat", f)
	case f != "":
		labels := &structpb.Struct{}
		if protojson.Unmarshal([]byte(f), labels) != nil {
			r.ErrorAt("accessLogFormat", "FormatInvalid", "is %s, but accessLogEncoding JSON wants a JSON object; the default format is used", shown(f))
		}
		fields("accessLogFormat", labels)
	}
	for i, p := range mc.GetExtensionProviders() {
		at := indexed("extensionProviders", i) + ".envoyFileAccessLog.logFormat."
		text(at+"text", p.GetEnvoyFileAccessLog().GetLogFormat().GetText())
		fields(at+"labels", p.GetEnvoyFileAccessLog().GetLogFormat().GetLabels())
		at = indexed("extensionProviders", i) + ".envoyOtelAls.logFormat."
		text(at+"text", p.GetEnvoyOtelAls().GetLogFormat().GetText())
		fields(at+"labels", p.GetEnvoyOtelAls().GetLogFormat().GetLabels())
	}
}

// logFault is what is wrong with the variables of an access log's text.
func logFault(format string) string { return variablesFault(format, "REQ_WITHOUT_QUERY") }

// fieldsFault is the first fault of the texts in a JSON format.
func fieldsFault(v *structpb.Value) string {
	for _, name := range sortedKeys(v.GetStructValue().GetFields()) {
		if fault := fieldsFault(v.GetStructValue().GetFields()[name]); fault != "" {
			return fault
		}
	}
	for _, element := range v.GetListValue().GetValues() {
		if fault := fieldsFault(element); fault != "" {
			return fault
		}
	}
	return logFault(v.GetStringValue())
}

// checkDefaultProviders wants the providers that are in use to be defined, and
// to be of a kind that has an effect.
func checkDefaultProviders(r *Report, mc *meshconfig.MeshConfig) {
	for _, list := range []struct {
		field string
		names []string
		use   use
	}{
		{"accessLogging", mc.GetDefaultProviders().GetAccessLogging(), useLogs},
		{"tracing", mc.GetDefaultProviders().GetTracing(), useTracing},
		{"metrics", mc.GetDefaultProviders().GetMetrics(), useMetrics},
	} {
		for i, name := range list.names {
			if code, text := providerFault(mc, name, list.use); code != "" {
				r.ErrorAt(indexed("defaultProviders."+list.field, i), code, "%s", text)
			}
		}
	}
}

func checkHostPort(r *Report, v protoreflect.Value) {
	if _, _, ok := hostPort(v.String()); v.String() != "" && !ok {
		r.Errorf("AddressInvalid", "is %s; want host:port", shown(v.String()))
	}
}

func checkOperator(r *Report, v protoreflect.Value) {
	switch v.String() {
	case "In", "NotIn", "Exists", "DoesNotExist":
	default:
		r.Errorf("ValueInvalid", "is %s; want In, NotIn, Exists or DoesNotExist", shown(v.String()))
	}
}

func checkCurve(r *Report, v protoreflect.Value) {
	if !curves[v.String()] {
		r.Warnf("CurveUnknown", "is %s; want %s; it is left out", shown(v.String()), strings.Join(sortedKeys(curves), ", "))
	}
}

// checkAuthorizer tests a provider of CUSTOM policies as a whole.
func checkAuthorizer(r *Report, v protoreflect.Value) {
	p := &meshconfig.MeshConfig_ExtensionProvider{}
	switch x := v.Message().Interface().(type) {
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationHttpProvider:
		p.Provider = &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzHttp{EnvoyExtAuthzHttp: x}
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider:
		p.Provider = &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc{EnvoyExtAuthzGrpc: x}
	}
	if fault := authorizerFault(p); fault != "" {
		r.Errorf("ProviderInvalid", "%s: whatever the policies that name it are about is refused", fault)
	}
}

// checkMeshMTLS: inside the mesh the peers settle the curve.
func checkMeshMTLS(r *Report, v protoreflect.Value) {
	if t, ok := v.Message().Interface().(*meshconfig.MeshConfig_TLSConfig); ok && len(t.GetEcdhCurves()) > 0 {
		r.WarnAt("ecdhCurves", "NoEffect", "has no effect on TLS inside the mesh; curves are for tlsDefaults")
	}
}

func checkTrustDomain(r *Report, v protoreflect.Value) {
	if fault := trustDomainFault(v.String()); fault != "" {
		r.Errorf("TrustDomainInvalid", "%s", fault)
	}
}

// trustDomainFault says what is wrong with the name of a trust domain, or
// nothing (SPIFFE-ID section 2.1).
func trustDomainFault(s string) string {
	ok := s != "" && len(s) <= 255
	for _, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("-._", c))
	}
	if !ok {
		return "is " + shown(s) + "; want a trust domain such as cluster.local: lower-case letters, digits, '-', '.' and '_'"
	}
	return ""
}

func checkWrappedNatural(r *Report, v protoreflect.Value) {
	if n, ok := v.Message().Interface().(*wrapperspb.Int32Value); ok && n.GetValue() < 0 {
		r.Errorf("OutOfRange", "is %d; want 0 or more", n.GetValue())
	}
}

// checkWindow wants what HTTP/2 allows for a flow-control window that is no
// smaller than its default (RFC 9113 section 6.9.2).
func checkWindow(r *Report, v protoreflect.Value) {
	if n, ok := v.Message().Interface().(*wrapperspb.Int32Value); ok && n.GetValue() < leastWindow {
		r.Errorf("OutOfRange", "is %d; want from 65535 to 2147483647", n.GetValue())
	}
}

// meshConfigProblems checks the mesh's settings as far as they are not the
// defaults, which are the same whether they are written down or not.
func (ix *Index) meshConfigProblems() []config.Problem {
	s := ix.mesh.Settings
	if s.Key == (config.Key{}) {
		return nil
	}
	said := proto.CloneOf(s.Mesh)
	dropDefaults(said.ProtoReflect(), config.DefaultMeshConfig().ProtoReflect())
	return checkUnder(meshConfigRoot, &s.Meta, said)
}

// dropDefaults clears the fields that equal those of def.
func dropDefaults(m, def protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case !def.Has(fd):
		case v.Equal(def.Get(fd)):
			m.Clear(fd)
		case fd.Message() != nil && !fd.IsList() && !fd.IsMap() && fd.Message().FullName().Parent() != "google.protobuf":
			dropDefaults(v.Message(), def.Get(fd).Message())
		}
		return true
	})
}

// meshConfigRoot is where the ConfigMap istio holds the MeshConfig.
const meshConfigRoot = "data.mesh"
