package translate

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkEnvoyFilter(r *Report, m proto.Message) {
	f, _ := m.(*networking.EnvoyFilter)
	if len(f.GetConfigPatches()) == 0 {
		r.WarnAt("configPatches", "NoEffect", "is empty, so that the object has no effect")
	}
	if len(f.GetTargetRefs()) > 0 && f.GetWorkloadSelector() != nil {
		r.ErrorAt("workloadSelector", "Conflict", "is set beside targetRefs; want one of them")
	}
	checkLabelKeys(r, "workloadSelector.labels", f.GetWorkloadSelector().GetLabels())
}

// operationsOf are what can be done to a part. To insert into a list whose order
// means nothing is to add.
func operationsOf(to networking.EnvoyFilter_ApplyTo) []networking.EnvoyFilter_Patch_Operation {
	const (
		add, remove, merge   = networking.EnvoyFilter_Patch_ADD, networking.EnvoyFilter_Patch_REMOVE, networking.EnvoyFilter_Patch_MERGE
		first, before, after = networking.EnvoyFilter_Patch_INSERT_FIRST, networking.EnvoyFilter_Patch_INSERT_BEFORE, networking.EnvoyFilter_Patch_INSERT_AFTER
		replace, lists       = networking.EnvoyFilter_Patch_REPLACE, networking.EnvoyFilter_Patch_MERGE_AND_REPLACE_LIST
	)
	type list = []networking.EnvoyFilter_Patch_Operation
	switch to {
	case networking.EnvoyFilter_LISTENER, networking.EnvoyFilter_FILTER_CHAIN, networking.EnvoyFilter_CLUSTER, networking.EnvoyFilter_HTTP_ROUTE:
		return list{merge, lists, add, remove, first, before, after}
	case networking.EnvoyFilter_NETWORK_FILTER, networking.EnvoyFilter_HTTP_FILTER, networking.EnvoyFilter_LISTENER_FILTER, networking.EnvoyFilter_VIRTUAL_HOST:
		return list{merge, lists, add, remove, first, before, after, replace}
	case networking.EnvoyFilter_ROUTE_CONFIGURATION, networking.EnvoyFilter_BOOTSTRAP:
		return list{merge, lists}
	case networking.EnvoyFilter_EXTENSION_CONFIG:
		return list{add}
	}
	return nil
}

func checkPatch(r *Report, m proto.Message) {
	p, _ := m.(*networking.EnvoyFilter_EnvoyConfigObjectPatch)
	can := operationsOf(p.GetApplyTo())
	switch {
	case can == nil:
		r.ErrorAt("applyTo", "ValueInvalid", "is %s; want the part of Envoy's configuration that the patch is for", p.GetApplyTo())
		return
	case !slices.Contains(can, p.GetPatch().GetOperation()):
		names := make([]string, len(can))
		for i, o := range can {
			names[i] = o.String()
		}
		r.ErrorAt("patch.operation", "ValueInvalid", "is %s, which cannot be done to %s; want one of %s", p.GetPatch().GetOperation(), p.GetApplyTo(), strings.Join(names, ", "))
		return
	}
	for _, f := range unreadFields(p) {
		r.WarnAt("patch.value"+f.path, "UnknownField", "is no field of %s; it is left out", f.of)
	}
	value, err := patchValue(p)
	if err == nil && p.GetApplyTo() == networking.EnvoyFilter_BOOTSTRAP {
		err = checkBootstrap(p.GetPatch().GetOperation(), value)
	}
	if err != nil {
		at := "patch.value"
		if f := (*valueFault)(nil); errors.As(err, &f) {
			at += f.field
		}
		r.ErrorAt(at, "ValueInvalid", "%s", plainError(err))
		return
	}
	if p.GetMatch().GetContext() == networking.EnvoyFilter_WAYPOINT {
		r.WarnAt("match.context", "FieldUnsupported", "is WAYPOINT; %s, so that the patch has no effect", noWaypoint)
	}
	checkPatchMatch(r, p)
	checkPatchName(r, p, value)
}

// checkPatchMatch: a match of another kind matches nothing, or everything.
func checkPatchMatch(r *Report, p *networking.EnvoyFilter_EnvoyConfigObjectPatch) {
	m := p.GetMatch()
	given := map[string]bool{"listener": m.GetListener() != nil, "routeConfiguration": m.GetRouteConfiguration() != nil, "cluster": m.GetCluster() != nil}
	want := "listener"
	switch p.GetApplyTo() {
	case networking.EnvoyFilter_CLUSTER:
		want = "cluster"
	case networking.EnvoyFilter_ROUTE_CONFIGURATION, networking.EnvoyFilter_VIRTUAL_HOST, networking.EnvoyFilter_HTTP_ROUTE:
		want = "routeConfiguration"
	case networking.EnvoyFilter_EXTENSION_CONFIG, networking.EnvoyFilter_BOOTSTRAP:
		want = ""
	}
	for _, kind := range []string{"listener", "routeConfiguration", "cluster"} {
		if given[kind] && kind != want {
			r.ErrorAt("match."+kind, "Conflict", "is set, but %s is no part of a %s", p.GetApplyTo(), kind)
		}
	}
	const chain = "match.listener.filterChain"
	f := m.GetListener().GetFilterChain().GetFilter()
	switch to := p.GetApplyTo(); to {
	case networking.EnvoyFilter_LISTENER, networking.EnvoyFilter_LISTENER_FILTER:
		if m.GetListener().GetFilterChain() != nil {
			r.WarnAt(chain, "NoEffect", "has no effect: %s is no part of a filter chain", to)
		}
	case networking.EnvoyFilter_FILTER_CHAIN:
		if f != nil {
			r.WarnAt(chain+".filter", "NoEffect", "has no effect on which chains are patched")
		}
	case networking.EnvoyFilter_NETWORK_FILTER:
		if f.GetSubFilter() != nil {
			r.ErrorAt(chain+".filter.subFilter", "Conflict", "is set, but NETWORK_FILTER is no part of another filter; want applyTo HTTP_FILTER")
		}
	case networking.EnvoyFilter_HTTP_FILTER:
		if n := f.GetName(); n != "" && presentName(n) != connectionManager {
			r.ErrorAt(chain+".filter.name", "ValueInvalid", "is %s, which has no HTTP filters; want %s", shown(n), connectionManager)
		}
	}
}

// patchedFilter is the name of the filter that a patch is about, "-" if it is
// about something else, and the field that says so.
func patchedFilter(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) (where, name string) {
	filter := p.GetMatch().GetListener().GetFilterChain().GetFilter()
	switch p.GetApplyTo() {
	case networking.EnvoyFilter_NETWORK_FILTER:
		return "match.listener.filterChain.filter.name", filter.GetName()
	case networking.EnvoyFilter_HTTP_FILTER:
		return "match.listener.filterChain.filter.subFilter.name", filter.GetSubFilter().GetName()
	case networking.EnvoyFilter_LISTENER_FILTER:
		return "match.listener.listenerFilter", p.GetMatch().GetListener().GetListenerFilter()
	}
	return "", "-"
}

// namesNoFilter reports whether a patch does nothing since it does not say to
// which filter, which checkPatchName tells.
func namesNoFilter(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) bool {
	_, name := patchedFilter(p)
	switch p.GetPatch().GetOperation() {
	case networking.EnvoyFilter_Patch_REMOVE, networking.EnvoyFilter_Patch_REPLACE:
		return name == ""
	}
	return false
}

// checkPatchName: some operations need to know which element of a list is
// meant, and what is added needs a name.
func checkPatchName(r *Report, p *networking.EnvoyFilter_EnvoyConfigObjectPatch, value proto.Message) {
	where, name := patchedFilter(p)
	switch o := p.GetPatch().GetOperation(); o {
	case networking.EnvoyFilter_Patch_MERGE, networking.EnvoyFilter_Patch_MERGE_AND_REPLACE_LIST:
		if name == "" {
			r.ErrorAt(where, "Missing", "is empty; %s needs to know which filter is meant", o)
		}
		return
	case networking.EnvoyFilter_Patch_REMOVE, networking.EnvoyFilter_Patch_REPLACE: // Istio takes them, and does nothing
		if name == "" {
			r.WarnAt(where, "NoEffect", "is empty, so that %s does nothing: it needs to know which filter is meant", o)
		}
		if o == networking.EnvoyFilter_Patch_REMOVE {
			return
		}
	}
	named, _ := value.(interface{ GetName() string })
	switch p.GetApplyTo() {
	case networking.EnvoyFilter_HTTP_ROUTE, networking.EnvoyFilter_FILTER_CHAIN:
	default:
		if named != nil && named.GetName() == "" {
			r.ErrorAt("patch.value.name", "Missing", "is empty; what is added needs a name")
		}
	}
}

func checkProxyVersion(r *Report, v protoreflect.Value) {
	if _, err := versionPattern(v.String()); err != nil {
		r.Errorf("RegexInvalid", "is %s; want a regular expression (RE2) of up to %d characters: %v", shown(v.String()), longestPattern, err)
	}
}

func checkPatchPort(r *Report, v protoreflect.Value) {
	if n := v.Uint(); n > 65535 {
		r.Errorf("PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
}

func checkGatewayOfPatch(r *Report, v protoreflect.Value) {
	if ns, name, ok := strings.Cut(v.String(), "/"); !ok || ns == "" || name == "" {
		r.Errorf("GatewayInvalid", "is %s; want namespace/name of a Gateway", shown(v.String()))
	}
}

func checkConcurrency(r *Report, v protoreflect.Value) {
	if n, ok := v.Message().Interface().(*wrapperspb.Int32Value); ok && n.GetValue() < 0 {
		r.Errorf("ValueInvalid", "is %d; want 0 (one thread for each CPU) or more", n.GetValue())
	}
}

// envoyFilterProblems are what keeps an EnvoyFilter from any workload.
func (ix *Index) envoyFilterProblems() []config.Problem {
	var out []config.Problem
	for f := range ix.mesh.EnvoyFilters.All() {
		for i, r := range f.Spec.GetTargetRefs() {
			if r.GetKind() != "Gateway" || r.GetGroup() != "gateway.networking.k8s.io" {
				out = append(out, config.At(&f.Meta, "spec.targetRefs["+strconv.Itoa(i)+"]", config.Warning, "TargetUnsupported",
					"names a %s: only waypoints take such EnvoyFilters, and pilotfish has none. Target a Gateway of the Gateway API, or use workloadSelector", shown(r.GetKind())))
			}
		}
		for _, p := range ix.policySelectorProblems(&f.Meta, f.Spec.GetWorkloadSelector().GetLabels()) {
			p.Field = "spec.workloadSelector"
			out = append(out, p)
		}
	}
	return out
}

// proxyConfigProblems are ProxyConfigs that an older one of the same rank
// takes the place of.
func (ix *Index) proxyConfigProblems() []config.Problem {
	var out []config.Problem
	for _, ns := range ix.mesh.ProxyConfigs.Namespaces() {
		list := slices.Clone(ix.mesh.ProxyConfigs.In(ns))
		slices.SortFunc(list, func(a, b *config.ProxyConfig) int { return precedence(&a.Meta, &b.Meta) })
		var first *config.ProxyConfig
		for _, c := range list {
			if match := c.Spec.GetSelector().GetMatchLabels(); len(match) > 0 {
				out = append(out, ix.policySelectorProblems(&c.Meta, match)...)
				continue
			}
			if first == nil {
				first = c
				continue
			}
			out = append(out, config.At(&c.Meta, "", config.Warning, "ProxyConfigShadowed",
				"has no effect: the older %s is for all pods of namespace %s, too. Add a selector, or remove one of them", first.Key, ns))
		}
	}
	return out
}
