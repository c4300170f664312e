package meshtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// portsNotExposed are servers of Gateways on ports that no Service of the
// gateway's pods has, so that nobody outside gets there. Pods without a
// Service are reached otherwise.
func portsNotExposed(m *config.Mesh) []config.Problem {
	var out []config.Problem
	for gw := range m.Gateways.All() {
		services := servicesOfGateway(m, gw)
		if len(services) == 0 {
			continue
		}
		var have []string
		for _, s := range services {
			for _, p := range s.Ports {
				have = append(have, fmt.Sprint(p.Number))
			}
		}
		for i, server := range gw.Spec.GetServers() {
			n := server.GetPort().GetNumber()
			if server.GetBind() != "" || slices.ContainsFunc(services, func(s *config.Service) bool {
				return slices.ContainsFunc(s.Ports, func(p config.ServicePort) bool { return p.Number == n || p.TargetPort == n })
			}) {
				continue
			}
			out = append(out, config.At(&gw.Meta, fmt.Sprintf("spec.servers[%d].port", i), config.Warning, "PortNotExposed",
				"port %d is none of %s's (%s), so that clients outside do not reach it", n, services[0].Key, strings.Join(have, ", ")))
		}
	}
	return out
}

func servicesOfGateway(m *config.Mesh, gw *config.Gateway) []*config.Service {
	var out []*config.Service
	if len(gw.Spec.GetSelector()) == 0 {
		return nil
	}
	for w := range m.Workloads.All() {
		if !config.Selects(gw.Spec.GetSelector(), w.Labels) {
			continue
		}
		for _, s := range m.Services.In(w.Namespace) {
			if s.Kubernetes && len(s.Selector) > 0 && config.Selects(s.Selector, w.Labels) && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// sharedCertificates are servers of different Gateways with one certificate
// and other hosts: a client that speaks HTTP/2 uses the connection to the one
// for the hosts of the other, where no route has them (RFC 9113, section 9.1.1).
func sharedCertificates(m *config.Mesh) []config.Problem {
	type server struct {
		gateway *config.Gateway
		*networking.Server
	}
	var out []config.Problem
	first := map[string]server{}
	for gw := range m.Gateways.All() {
		selector := gw.Spec.GetSelector()
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(selector)) {
			labels = append(labels, k+"="+selector[k])
		}
		for i, s := range gw.Spec.GetServers() {
			name := s.GetTls().GetCredentialName()
			if name == "" || s.GetTls().GetMode() == networking.ServerTLSSettings_PASSTHROUGH {
				continue
			}
			at := fmt.Sprint(strings.Join(labels, ","), " ", s.GetPort().GetNumber(), " ", name)
			have, known := first[at]
			if !known {
				first[at] = server{gw, s}
				continue
			}
			if have.gateway == gw || slices.Equal(have.GetHosts(), s.GetHosts()) {
				continue
			}
			out = append(out, config.At(&gw.Meta, fmt.Sprintf("spec.servers[%d].tls.credentialName", i), config.Warning, "CertificateShared",
				"is %q, as that of %s for %s: clients that speak HTTP/2 use one connection for the hosts of both, and get 404 for those of the other. "+
					"Put the hosts into one server, or give each a certificate of its own", name, have.gateway.Key, strings.Join(have.GetHosts(), ", ")))
		}
	}
	return out
}

const claimHeader = "@request.auth.claims"

// claimsWithoutTokens are routes of gateways by claims of tokens where no
// RequestAuthentication reads any: they never match.
func claimsWithoutTokens(m *config.Mesh) []config.Problem {
	var out []config.Problem
	for vs := range m.VirtualServices.All() {
		for i, r := range vs.Spec.GetHttp() {
			for j, match := range r.GetMatch() {
				for _, name := range sortedKeys(match.GetHeaders()) {
					if !strings.HasPrefix(strings.ToLower(name), claimHeader) {
						continue
					}
					for _, g := range vs.Spec.GetGateways() {
						if gw := gatewayNamed(m, vs.Namespace, g); gw != nil && !readsTokens(m, gw) {
							out = append(out, config.At(&vs.Meta, fmt.Sprintf("spec.http[%d].match[%d].headers[%s]", i, j, name), config.Warning, "ClaimsWithoutToken",
								"never matches: no RequestAuthentication is for the workloads of %s, so that no token is read there", gw.Key))
						}
					}
				}
			}
		}
	}
	return out
}

func gatewayNamed(m *config.Mesh, namespace, name string) *config.Gateway {
	ns, short, ok := strings.Cut(name, "/")
	if !ok {
		ns, short = namespace, name
	}
	if ns == "." {
		ns = namespace
	}
	gw, _ := m.Gateways.Get(ns, short)
	return gw
}

// readsTokens reports whether a RequestAuthentication may be for the workloads
// of a gateway.
func readsTokens(m *config.Mesh, gw *config.Gateway) bool {
	root := m.RootNamespace()
	for p := range m.RequestAuthentications.All() {
		if len(p.Spec.GetJwtRules()) == 0 {
			continue
		}
		if len(p.Spec.GetTargetRefs()) > 0 || p.Spec.GetTargetRef() != nil {
			return true // of a Gateway whose workloads are not known here
		}
		selector, known := p.Spec.GetSelector().GetMatchLabels(), false
		for w := range m.Workloads.All() {
			if !config.Selects(gw.Spec.GetSelector(), w.Labels) {
				continue
			}
			known = true
			if (p.Namespace == root || p.Namespace == w.Namespace) && config.Selects(selector, w.Labels) {
				return true
			}
		}
		if !known && (p.Namespace == root || p.Namespace == gw.Namespace) && config.Selects(selector, gw.Spec.GetSelector()) {
			return true
		}
	}
	return false
}
