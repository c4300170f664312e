package config

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Role is what runs in a workload's pods.
type Role int

// The roles.
const (
	// PlainPod: the application alone.
	PlainPod Role = iota
	// SidecarPod: the application with a proxy beside it.
	SidecarPod
	// GatewayPod: a proxy alone.
	GatewayPod
)

// Labels and annotations by which Istio's users say what is injected.
const (
	injectKey      = "sidecar.istio.io/inject"
	templatesKey   = "inject.istio.io/templates"
	gatewayName    = "gateway"
	gatewayPrefix  = "istio-"
	defaultGateway = gatewayPrefix + "ingressgateway"
)

// RoleOf tells gateways from applications: by the injection template, or
// because a Gateway selects them. Every other workload has a sidecar unless
// it says that it wants none.
func (m *Mesh) RoleOf(w *Workload) Role {
	if InjectedAsGateway(w) {
		return GatewayPod
	}
	for gw := range m.Gateways.All() {
		if s := gw.Spec.GetSelector(); len(s) > 0 && Selects(s, w.Labels) {
			return GatewayPod
		}
	}
	if w.HostNetwork || w.Labels[injectKey] == "false" || w.Annotations[injectKey] == "false" {
		return PlainPod
	}
	return SidecarPod
}

// InjectedAsGateway says whether a workload's pods get the template of gateways.
func InjectedAsGateway(w *Workload) bool {
	return slices.Contains(strings.Split(w.Annotations[templatesKey], ","), gatewayName)
}

// StandInGateways are workloads that a folder does not have and its Gateways
// need: one for each selector that no gateway workload matches, in the root
// namespace, with the labels that Istio's charts give to one of that name.
func (m *Mesh) StandInGateways() []*Workload {
	have := map[string]bool{}
	var gateways []*Workload
	for w := range m.Workloads.All() {
		have[w.Namespace+"/"+w.Name] = true
		if m.RoleOf(w) == GatewayPod {
			gateways = append(gateways, w)
		}
	}
	var out []*Workload
	bySelector := map[string]bool{}
	for gw := range m.Gateways.All() {
		selector := gw.Spec.GetSelector()
		id := selectorText(selector)
		served := slices.ContainsFunc(gateways, func(w *Workload) bool { return Selects(selector, w.Labels) })
		if bySelector[id] || served {
			continue
		}
		bySelector[id] = true
		base := cmp.Or(chartGateway(selector), defaultGateway)
		name := base
		for i := 2; have[m.RootNamespace()+"/"+name]; i++ {
			name = base + "-" + strconv.Itoa(i)
		}
		have[m.RootNamespace()+"/"+name] = true
		w := standIn(m.RootNamespace(), name, selector)
		gateways = append(gateways, w)
		out = append(out, w)
	}
	return out
}

// chartGateway is the name that Istio's charts give to gateways with the labels
// of a selector, such as istio-ingressgateway; empty for labels of another's
// making.
func chartGateway(selector map[string]string) string {
	if len(selector) == 0 {
		return defaultGateway
	}
	if n := selector["istio"]; n != "" {
		return gatewayPrefix + n
	}
	if n := selector["app"]; strings.HasPrefix(n, gatewayPrefix) {
		return n
	}
	return ""
}

// SelectsInstalledGateway says whether a selector names a gateway that Istio's
// installation brings. Its pods are seldom kept with the configuration.
func SelectsInstalledGateway(selector map[string]string) bool {
	if len(selector) == 0 {
		return false
	}
	return slices.Contains([]string{defaultGateway, gatewayPrefix + "egressgateway", gatewayPrefix + "eastwestgateway"}, chartGateway(selector))
}

func standIn(ns, name string, selector map[string]string) *Workload {
	labels := map[string]string{}
	if chart := chartGateway(selector); chart != "" {
		labels["app"], labels["istio"] = chart, strings.TrimPrefix(chart, gatewayPrefix)
	}
	maps.Copy(labels, selector)
	return &Workload{
		Meta:           Meta{Key: Key{Kind: "Pod", Namespace: ns, Name: name}, Labels: labels},
		ServiceAccount: name, Ready: true,
		Owner: Key{Group: "apps", Kind: "Deployment", Namespace: ns, Name: name},
	}
}

func selectorText(s map[string]string) string {
	parts := make([]string, 0, len(s))
	for k, v := range s {
		parts = append(parts, k+"="+v)
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

// WorkloadName is the controller's name, or the pod's without one.
func (w *Workload) WorkloadName() string {
	if w.Owner.Name != "" {
		return w.Owner.Name
	}
	return w.Name
}
