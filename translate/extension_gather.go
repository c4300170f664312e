package translate

import (
	"slices"
	"sort"
	"strings"

	extensions "istio.io/api/extensions/v1alpha1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// extension is a WasmPlugin or TrafficExtension: a filter of the user's own.
// Both are one thing in two notations, so it is kept in the second one.
type extension struct {
	meta *config.Meta
	spec *extensions.TrafficExtension
	// targetRef is the only field that the second notation lacks.
	targetRef *typev1beta1.PolicyTargetReference
}

// GetSelector implements attachable.
func (x *extension) GetSelector() *typev1beta1.WorkloadSelector { return x.spec.GetSelector() }

// GetTargetRef implements attachable.
func (x *extension) GetTargetRef() *typev1beta1.PolicyTargetReference { return x.targetRef }

// GetTargetRefs implements attachable.
func (x *extension) GetTargetRefs() []*typev1beta1.PolicyTargetReference {
	return x.spec.GetTargetRefs()
}

func ofWasmPlugin(p *config.WasmPlugin) *extension {
	s := p.Spec
	out := &extensions.TrafficExtension{
		Selector: s.GetSelector(), TargetRefs: s.GetTargetRefs(), Priority: s.GetPriority(),
		Phase: extensions.TrafficExtension_ExecutionPhase(s.GetPhase()),
		FilterConfig: &extensions.TrafficExtension_Wasm{Wasm: &extensions.WasmConfig{
			Url: s.GetUrl(), Sha256: s.GetSha256(), ImagePullPolicy: s.GetImagePullPolicy(), ImagePullSecret: s.GetImagePullSecret(),
			PluginConfig: s.GetPluginConfig(), PluginName: s.GetPluginName(), FailStrategy: s.GetFailStrategy(),
			VmConfig: s.GetVmConfig(), Type: s.GetType(),
		}},
	}
	for _, m := range s.GetMatch() {
		out.Match = append(out.Match, &extensions.TrafficSelector{Mode: m.GetMode(), Ports: m.GetPorts()})
	}
	return &extension{meta: &p.Meta, spec: out, targetRef: s.GetTargetRef()}
}

// extensionsOf are a Mesh's extensions of some namespaces, or of all.
func extensionsOf(m *config.Mesh, namespaces ...string) []*extension {
	var out []*extension
	in := func(ns string) bool { return len(namespaces) == 0 || slices.Contains(namespaces, ns) }
	for p := range m.WasmPlugins.All() {
		if in(p.Namespace) {
			out = append(out, ofWasmPlugin(p))
		}
	}
	for p := range m.TrafficExtensions.All() {
		if in(p.Namespace) {
			out = append(out, &extension{meta: &p.Meta, spec: p.Spec})
		}
	}
	return out
}

// gatherExtensions finds those that are for the scope's workloads, in the order
// in which they see traffic (WasmPlugin.priority).
func (ix *Index) gatherExtensions(s *Scope) {
	for _, x := range extensionsOf(ix.mesh, ix.mesh.RootNamespace(), s.Class.Namespace) {
		if x.spec.GetFilterConfig() != nil && attaches(x, x.meta.Namespace, s.Class.Namespace, s.Labels) {
			s.extensions = append(s.extensions, x)
		}
	}
	sort.SliceStable(s.extensions, func(i, j int) bool {
		a, b := s.extensions[i], s.extensions[j]
		if p, q := a.spec.GetPriority().GetValue(), b.spec.GetPriority().GetValue(); p != q {
			return p > q
		}
		return a.meta.Before(b.meta)
	})
}

func addExtensions(h config.Hasher, list []*extension) {
	h.Uint(uint64(len(list)))
	for _, x := range list {
		h.Str(x.meta.Kind).Hash(x.meta.Hash)
	}
}

// name is that of the extension's filter and of its configuration over ECDS, as
// Istio's users know it. One of connections has another name than one of
// requests: an object may become the other, while listeners of before drain.
func (x *extension) name() string {
	kind := strings.ToLower(x.meta.Kind) + "/"
	if x.ofConnections() {
		kind += "network/"
	}
	return "extensions.istio.io/" + kind + x.meta.Namespace + "." + x.meta.Name
}

// ofConnections reports whether the extension looks at connections rather than
// at requests.
func (x *extension) ofConnections() bool {
	return x.spec.GetWasm().GetType() == extensions.PluginType_NETWORK
}

// takes reports whether the extension is for traffic of a side to a port; port
// 0 stands for any that nothing names.
func (x *extension) takes(side Side, port uint32) bool {
	if len(x.spec.GetMatch()) == 0 {
		return true
	}
	own := typev1beta1.WorkloadMode_CLIENT // also of gateways
	if side == Inbound {
		own = typev1beta1.WorkloadMode_SERVER
	}
	return slices.ContainsFunc(x.spec.GetMatch(), func(m *extensions.TrafficSelector) bool {
		switch m.GetMode() {
		case own, typev1beta1.WorkloadMode_UNDEFINED, typev1beta1.WorkloadMode_CLIENT_AND_SERVER:
		default:
			return false
		}
		return len(m.GetPorts()) == 0 || slices.ContainsFunc(m.GetPorts(), func(p *typev1beta1.PortSelector) bool { return p.GetNumber() == port })
	})
}

// extensionProblems are selectors without workloads, and pull secrets that do
// not exist.
func (ix *Index) extensionProblems() []config.Problem {
	var out []config.Problem
	for _, x := range extensionsOf(ix.mesh) {
		out = append(out, ix.attachmentProblems(x.meta, x)...)
		secret := x.spec.GetWasm().GetImagePullSecret()
		if secret == "" {
			continue
		}
		field := "spec.imagePullSecret"
		if x.meta.Kind == "TrafficExtension" {
			field = "spec.wasm.imagePullSecret"
		}
		if s, ok := ix.mesh.Secrets.Get(x.meta.Namespace, secret); !ok {
			out = append(out, config.At(x.meta, field, config.Warning, "SecretNotFound", "is %s, which does not exist in namespace %s", shown(secret), x.meta.Namespace))
		} else if pullSecretOf(s) == nil {
			out = append(out, config.At(x.meta, field, config.Warning, "SecretInvalid", "is %s, which is no Secret of type %s", shown(secret), pullSecretType))
		}
	}
	return out
}
