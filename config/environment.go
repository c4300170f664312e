package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// Environment holds those variables of the control plane's environment that
// headers of its MeshConfig's extension providers name (HttpHeader.envName), and
// no other. The values are secrets: no text or JSON form has them. The nil
// Environment is one that nobody has read. Immutable.
type Environment struct{ values map[string]string }

// Lookup finds a variable of an environment, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// readEnvironment looks up what a MeshConfig names.
func readEnvironment(mc *meshconfig.MeshConfig, lookup Lookup) *Environment {
	e := &Environment{values: map[string]string{}}
	for _, h := range ProviderHeaders(mc) {
		if v, ok := lookup(h.GetEnvName()); ok && h.GetEnvName() != "" {
			e.values[h.GetEnvName()] = v
		}
	}
	return e
}

// Values are all secrets of an Environment, sorted.
func (e *Environment) Values() []string {
	if e == nil {
		return nil
	}
	var out []string
	for name, v := range e.values {
		if v != "" && v != Placeholder(name) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// longestValue is Envoy's bound for a header's value in bytes
// (core.v3.HeaderValue); a percent sign takes two.
const longestValue = 16384

// Header is the value of a header that a variable holds. Of an Environment that
// nobody has read it says which variable that is. fault says why there is none.
func (e *Environment) Header(variable string) (value, fault string) {
	switch {
	case !variableName.MatchString(variable):
		return "", "want the name of an environment variable"
	case e == nil:
		return Placeholder(variable), ""
	}
	switch v, ok := e.values[variable]; {
	case !ok:
		return "", "the control plane's environment has no such variable"
	case v == "":
		return "", "the variable is empty in the control plane's environment"
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", "the variable's value in the control plane's environment has a line break or another control character, which no header can have"
	case !utf8.ValidString(v) || len(v) > longestValue/2:
		return "", fmt.Sprintf("the variable's value in the control plane's environment is not UTF-8 of at most %d bytes", longestValue/2)
	default:
		return v, ""
	}
}

// Placeholder stands for the value of a variable where it is not read.
func Placeholder(variable string) string { return "[variable " + variable + " of the control plane]" }

// String has no values.
func (e *Environment) String() string { return "[redacted]" }

// GoString has no values.
func (e *Environment) GoString() string { return "[redacted]" }

// ProviderHeader is a header of an extension provider.
type ProviderHeader struct {
	*meshconfig.MeshConfig_ExtensionProvider_HttpHeader
	Provider string // its name
	Field    string // the header's path, from extensionProviders
}

// ProviderHeaders are the headers of all extension providers, wherever a
// provider can have them.
func ProviderHeaders(mc *meshconfig.MeshConfig) []ProviderHeader {
	var out []ProviderHeader
	for i, p := range mc.GetExtensionProviders() {
		eachHeader(p.ProtoReflect(), fmt.Sprintf("extensionProviders[%d]", i), func(field string, h *meshconfig.MeshConfig_ExtensionProvider_HttpHeader) {
			out = append(out, ProviderHeader{h, p.GetName(), field})
		})
	}
	return out
}

func eachHeader(m protoreflect.Message, at string, f func(string, *meshconfig.MeshConfig_ExtensionProvider_HttpHeader)) {
	if h, ok := m.Interface().(*meshconfig.MeshConfig_ExtensionProvider_HttpHeader); ok {
		f(at, h)
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch at := at + "." + fd.JSONName(); {
		case fd.Message() == nil || fd.IsMap() || !m.Has(fd):
		case fd.IsList():
			for j := range m.Get(fd).List().Len() {
				eachHeader(m.Get(fd).List().Get(j).Message(), fmt.Sprintf("%s[%d]", at, j), f)
			}
		default:
			eachHeader(m.Get(fd).Message(), at, f)
		}
	}
}

// EnvironmentProblems are the headers that are left out because their variables
// have no usable value. Field paths begin with prefix.
func (s *Settings) EnvironmentProblems(prefix string) []Problem {
	var out []Problem
	for _, h := range ProviderHeaders(s.Mesh) {
		if _, ok := h.GetHeaderValue().(*meshconfig.MeshConfig_ExtensionProvider_HttpHeader_EnvName); !ok {
			continue
		}
		if _, fault := s.Environment.Header(h.GetEnvName()); fault != "" {
			out = append(out, At(&s.Meta, prefix+h.Field+".envName", Error, "VariableInvalid",
				"is %q of provider %q: %s; header %q is left out", h.GetEnvName(), h.Provider, fault, h.GetName()))
		}
	}
	return out
}

// WithEnvironment are the Settings with the variables that they name.
func (s *Settings) WithEnvironment(lookup Lookup) *Settings {
	if lookup == nil {
		return s
	}
	out := *s
	out.Environment = readEnvironment(s.Mesh, lookup)
	if len(out.Environment.values) > 0 {
		out.Hash = NewHasher().Hash(s.Hash).Map(out.Environment.values).Sum()
	}
	return &out
}
