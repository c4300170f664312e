package translate

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	extensions "istio.io/api/extensions/v1alpha1"
	typev1beta1 "istio.io/api/type/v1beta1"
)

func checkWasmPlugin(r *Report, m proto.Message) {
	p, _ := m.(*extensions.WasmPlugin)
	checkModule(r, p.GetUrl(), p.GetSha256())
}

func checkWasmConfig(r *Report, m proto.Message) {
	w, _ := m.(*extensions.WasmConfig)
	checkModule(r, w.GetUrl(), w.GetSha256())
}

func checkModule(r *Report, text, sum string) {
	if text == "" {
		r.ErrorAt("url", "Missing", "is empty; want where the module is: http, https, oci or file")
		return
	}
	if u, err := moduleURL(text); err == nil {
		if _, inURL, ok := strings.Cut(u.Path, "@sha256:"); ok && sum != "" && inURL != sum {
			r.ErrorAt("sha256", "Conflict", "is %s, but the URL names %s", shown(sum), shown(inURL))
		}
	}
}

func checkModuleURL(r *Report, v protoreflect.Value) {
	u, err := moduleURL(v.String())
	switch {
	case err != nil || !slices.Contains([]string{"http", "https", "oci", "file"}, u.Scheme):
		r.Errorf("URLInvalid", "is %s; want a URL of scheme http, https, oci or file", shown(v.String()))
	case u.Scheme == "file" && !strings.HasPrefix(u.Path, "/"), u.Scheme == "file" && u.Host != "":
		r.Errorf("URLInvalid", "is %s; want an absolute path in the proxy's container: file:///path", shown(v.String()))
	case u.Scheme != "file" && (u.Host == "" || u.User != nil):
		r.Errorf("URLInvalid", "is %s; want a host without a user name", shown(v.String()))
	case u.Scheme == "oci" && strings.Trim(u.Path, "/") == "":
		r.Errorf("URLInvalid", "is %s, which names no image", shown(v.String()))
	}
}

var checksum = regexp.MustCompile(`^[a-f0-9]{64}$`)

func checkChecksum(r *Report, v protoreflect.Value) {
	if !checksum.MatchString(v.String()) {
		r.Errorf("ChecksumInvalid", "is %s; want 64 hexadecimal digits", shown(v.String()))
	}
}

func checkPullPolicy(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.PullPolicy(0).Descriptor(), v)
}

func checkPluginPhase(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.PluginPhase(0).Descriptor(), v)
}

func checkExecutionPhase(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.TrafficExtension_ExecutionPhase(0).Descriptor(), v)
}

func checkFailStrategy(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.FailStrategy(0).Descriptor(), v)
}

func checkPluginType(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.PluginType(0).Descriptor(), v)
}

func checkEnvSource(r *Report, v protoreflect.Value) {
	checkEnum(r, extensions.EnvValueSource(0).Descriptor(), v)
}

func checkWorkloadMode(r *Report, v protoreflect.Value) {
	checkEnum(r, typev1beta1.WorkloadMode(0).Descriptor(), v)
}

func checkTrafficExtension(r *Report, m proto.Message) {
	x, _ := m.(*extensions.TrafficExtension)
	if x.GetFilterConfig() == nil {
		r.Errorf("Missing", "has neither wasm nor lua; want one of them")
	}
}

func checkLua(r *Report, m proto.Message) {
	l, _ := m.(*extensions.LuaConfig)
	switch code := l.GetInlineCode(); {
	case code == "":
		r.ErrorAt("inlineCode", "Missing", "is empty; want a script")
	case !strings.Contains(code, "envoy_on_request") && !strings.Contains(code, "envoy_on_response"):
		r.WarnAt("inlineCode", "NoEffect", "has no function envoy_on_request or envoy_on_response, which are what Envoy calls")
	}
}

// checkVMConfig: Envoy refuses a module whose variables are not of one mind.
func checkVMConfig(r *Report, m proto.Message) {
	c, _ := m.(*extensions.VmConfig)
	seen := map[string]bool{}
	for _, v := range c.GetEnv() {
		if seen[v.GetName()] {
			r.ErrorAt("env", "Twice", "has %s more than once", shown(v.GetName()))
		}
		seen[v.GetName()] = true
	}
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkEnvVar(r *Report, m proto.Message) {
	v, _ := m.(*extensions.EnvVar)
	switch {
	case !variableName.MatchString(v.GetName()):
		r.ErrorAt("name", "NameInvalid", "is %s; want letters, digits and underscores", shown(v.GetName()))
	case strings.HasPrefix(v.GetName(), "ISTIO_META_WASM_"):
		r.ErrorAt("name", "NameInvalid", "is %s, which is for what agents are told", shown(v.GetName()))
	}
	if v.GetValueFrom() == extensions.EnvValueSource_HOST && v.GetValue() != "" {
		r.WarnAt("value", "NoEffect", "has no effect with valueFrom HOST: the value is the proxy's own")
	}
}
