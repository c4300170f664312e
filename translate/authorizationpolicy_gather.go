package translate

import (
	"strconv"

	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// accessRules are the AuthorizationPolicies of a workload.
type accessRules struct {
	policies []*config.AuthorizationPolicy // by precedence of their namespaces, then age
	// providers are the external authorizers that CUSTOM policies name; one
	// that does not exist, or cannot be reached, is nil.
	providers map[string]*authorizer
}

// authorizer is an extensionProvider with where it is.
type authorizer struct {
	provider *meshconfig.MeshConfig_ExtensionProvider
	cluster  string
	host     string
}

func (a *accessRules) addTo(h config.Hasher) {
	h.Uint(uint64(len(a.policies)))
	for _, p := range a.policies {
		h.Str(p.Namespace, p.Name).Hash(p.Hash).Bool(dryRun(p))
	}
	for _, name := range sortedKeys(a.providers) {
		h.Str(name)
		if x := a.providers[name]; x != nil {
			h.Str(x.cluster, x.host) // what else there is to it is the mesh's setting
		}
	}
}

func (ix *Index) accessRules(s *Scope) accessRules {
	out := accessRules{policies: attached(ix.mesh, ix.mesh.AuthorizationPolicies, s.Class.Namespace, s.Labels)}
	for _, p := range out.policies {
		if p.Spec.GetAction() != security.AuthorizationPolicy_CUSTOM {
			continue
		}
		name := p.Spec.GetProvider().GetName()
		if out.providers == nil {
			out.providers = map[string]*authorizer{}
		}
		out.providers[name] = ix.authorizer(name, s.Class.Namespace)
	}
	return out
}

// dryRun reports whether a policy is only tried out: it decides nothing, but
// what it would decide is counted.
func dryRun(p *config.AuthorizationPolicy) bool {
	on, err := strconv.ParseBool(p.Annotations[annotation.IoIstioDryRun.Name])
	return err == nil && on
}

// authorizer finds an external authorizer as proxies of a namespace reach it,
// nil if there is none.
func (ix *Index) authorizer(name, namespace string) *authorizer {
	for _, p := range ix.mesh.Settings.Mesh.GetExtensionProviders() {
		if p.GetName() != name || authorizerFault(p) != "" {
			continue
		}
		service, port := authorizerService(p)
		if at, ok := ix.site(service, port, namespace); ok {
			return &authorizer{provider: p, cluster: at.cluster(), host: at.host()}
		}
	}
	return nil
}

// authorizerService is where a provider of CUSTOM policies is; a port of 0
// means that the provider is of another kind.
func authorizerService(p *meshconfig.MeshConfig_ExtensionProvider) (service string, port uint32) {
	if x := p.GetEnvoyExtAuthzHttp(); x != nil {
		return x.GetService(), x.GetPort()
	}
	x := p.GetEnvoyExtAuthzGrpc()
	return x.GetService(), x.GetPort()
}
