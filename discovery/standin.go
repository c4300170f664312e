package discovery

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	security "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// StandIn returns what is in effect for an object of security.istio.io, or for
// an extension that does not fail open, that cannot be read, as long as no good
// version of it is known: the strictest that it can have meant, since without it
// everything would be allowed. read is what could be read of its spec, or nil;
// selects says that its selector and targetRefs are in it as they were written.
// ok is false for others.
func StandIn(meta config.Meta, read proto.Message, selects bool) (o Object, ok bool) {
	if meta.Group != SecurityGroup && meta.Group != ExtensionsGroup {
		return o, false
	}
	o.Meta = meta
	o.Meta.StandsIn = config.StandsInForNamespace
	if selects {
		o.Meta.StandsIn = config.StandsInForSelected
	}
	switch meta.Kind {
	case "AuthorizationPolicy":
		o.Body = strictAccess(read, selects)
	case "RequestAuthentication":
		// No issuer and no keys: every token is refused.
		out := &security.RequestAuthentication{JwtRules: []*security.JWTRule{{}}}
		if was, ok := read.(*security.RequestAuthentication); ok && selects {
			out.Selector, out.TargetRef, out.TargetRefs = was.GetSelector(), was.GetTargetRef(), was.GetTargetRefs()
		}
		o.Body = out
	case "PeerAuthentication":
		out := &security.PeerAuthentication{Mtls: &security.PeerAuthentication_MutualTLS{Mode: security.PeerAuthentication_MutualTLS_STRICT}}
		if was, ok := read.(*security.PeerAuthentication); ok && selects {
			out.Selector = was.GetSelector()
		}
		o.Body = out
	case "WasmPlugin":
		o.Body = strictPlugin(read, selects)
	case "TrafficExtension":
		o.Body = strictExtension(read, selects)
	}
	return o, o.Body != nil
}

// strictPlugin stands for a plugin that refuses whatever it would see; nil for
// one that fails open. Of what kind it is not known to be it is the one that
// sees more: connections, in both directions.
func strictPlugin(read proto.Message, selects bool) any {
	was, ok := read.(*extensions.WasmPlugin)
	if !ok {
		return &extensions.WasmPlugin{Type: extensions.PluginType_NETWORK}
	}
	if was.GetFailStrategy() == extensions.FailStrategy_FAIL_OPEN {
		return nil
	}
	out := &extensions.WasmPlugin{Type: was.GetType(), Phase: was.GetPhase()}
	if knownModes(was.GetMatch()) {
		out.Match = was.GetMatch()
	}
	if selects {
		out.Selector, out.TargetRef, out.TargetRefs = was.GetSelector(), was.GetTargetRef(), was.GetTargetRefs()
	}
	return out
}

// strictExtension is strictPlugin for the other notation. Scripts have no
// strategy: they fail closed.
func strictExtension(read proto.Message, selects bool) any {
	was, ok := read.(*extensions.TrafficExtension)
	if !ok {
		was = &extensions.TrafficExtension{FilterConfig: &extensions.TrafficExtension_Wasm{
			Wasm: &extensions.WasmConfig{Type: extensions.PluginType_NETWORK},
		}}
	}
	if was.GetWasm().GetFailStrategy() == extensions.FailStrategy_FAIL_OPEN {
		return nil
	}
	out := &extensions.TrafficExtension{Phase: was.GetPhase(), FilterConfig: &extensions.TrafficExtension_Wasm{
		Wasm: &extensions.WasmConfig{Type: was.GetWasm().GetType()},
	}}
	if knownModes(was.GetMatch()) {
		out.Match = was.GetMatch()
	}
	if selects {
		out.Selector, out.TargetRefs = was.GetSelector(), was.GetTargetRefs()
	}
	return out
}

// knownModes reports that a plugin's matches take what they were meant to; one
// with a mode or a port that does not exist would take nothing.
func knownModes[M interface {
	GetMode() typev1beta1.WorkloadMode
	GetPorts() []*typev1beta1.PortSelector
}](list []M) bool {
	return !slices.ContainsFunc(list, func(m M) bool {
		_, known := typev1beta1.WorkloadMode_name[int32(m.GetMode())]
		return !known || slices.ContainsFunc(m.GetPorts(), func(p *typev1beta1.PortSelector) bool {
			return p.GetNumber() == 0 || p.GetNumber() > 65535
		})
	})
}

// strictAccess denies everything, unless the policy says that it only counts.
func strictAccess(read proto.Message, selects bool) *security.AuthorizationPolicy {
	out := &security.AuthorizationPolicy{Action: security.AuthorizationPolicy_DENY, Rules: []*security.Rule{{}}}
	was, ok := read.(*security.AuthorizationPolicy)
	if !ok {
		return out
	}
	if was.GetAction() == security.AuthorizationPolicy_AUDIT {
		out.Action = security.AuthorizationPolicy_AUDIT
	}
	if selects {
		out.Selector, out.TargetRef, out.TargetRefs = was.GetSelector(), was.GetTargetRef(), was.GetTargetRefs()
	}
	return out
}

// selection are the fields that say for which workloads a policy is.
var selection = []string{"spec.selector", "spec.targetRef", "spec.targetRefs", "spec.target_ref", "spec.target_refs"}

// InSelection reports whether a field is one that says for which workloads a
// policy is, or a part of one.
func InSelection(field string) bool {
	return slices.ContainsFunc(selection, func(s string) bool {
		rest, ok := strings.CutPrefix(field, s)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// stricter returns what is in effect for a version that its checks found
// faulty: itself, since translation makes the strictest of what it cannot tell,
// unless the fault is in what it selects, or the object is an extension.
func stricter(o *Object, problems []config.Problem) *Object {
	if o.Meta.StandsIn != config.StandsInForNothing {
		return o // the source has made it
	}
	spec, _ := o.Body.(proto.Message)
	selects := !slices.ContainsFunc(problems, func(p config.Problem) bool { return isError(p) && InSelection(p.Field) })
	if selects && o.Meta.Group == SecurityGroup {
		return o
	}
	if s, ok := StandIn(o.Meta, spec, selects); ok {
		s.Meta.Hash = identity(&s)
		return &s
	}
	return o
}

// standInProblem says what a policy that cannot be read comes to.
func (v *version) standInProblem() config.Problem {
	m := &v.newest.Meta
	at := func(format string, args ...any) config.Problem {
		return config.At(m, "", config.Error, "FailsClosed", format, args...)
	}
	if !v.unsafe {
		return at("cannot be used as it is now: its last good version stays in effect")
	}
	m = &v.good.Meta
	whom := "the workloads that it selects"
	if m.StandsIn == config.StandsInForNamespace {
		whom = "all workloads that a policy of namespace " + m.Namespace + " is for, since whom it selects cannot be told"
	}
	if a, ok := v.good.Body.(*security.AuthorizationPolicy); ok && a.GetAction() == security.AuthorizationPolicy_AUDIT {
		return at("cannot be used, and only audits: it has no effect")
	}
	effect := map[string]string{
		"AuthorizationPolicy":   "denies everything to ",
		"RequestAuthentication": "refuses all tokens for ",
		"PeerAuthentication":    "takes mutual TLS only for ",
		"WasmPlugin":            "refuses what it would see of ",
		"TrafficExtension":      "refuses what it would see of ",
	}[m.Kind]
	return at("cannot be used, and would leave open what it restricts: until it can, it %s%s", effect, whom)
}
