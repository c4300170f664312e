package translate

import (
	"cmp"
	"slices"
	"strconv"

	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// TokenRule is one JWT rule of a RequestAuthentication for the workload, with
// the keys by which its issuer's tokens are checked.
type TokenRule struct {
	Source *config.RequestAuthentication
	Spec   *security.JWTRule
	// Keys are a JSON Web Key Set; empty for an issuer whose keys are unknown:
	// all of its tokens are refused.
	Keys string

	keysHash config.Hash
}

// tokenRules are the JWT rules for a workload by issuer. For one issuer all
// rules count.
func (ix *Index) tokenRules(namespace string, labels map[string]string) []TokenRule {
	var out []TokenRule
	for _, p := range attached(ix.mesh, ix.mesh.RequestAuthentications, namespace, labels) {
		for _, r := range p.Spec.GetJwtRules() {
			out = append(out, ix.tokenRule(p, r))
		}
	}
	slices.SortStableFunc(out, func(a, b TokenRule) int { return cmp.Compare(a.Spec.GetIssuer(), b.Spec.GetIssuer()) })
	return out
}

func (ix *Index) tokenRule(p *config.RequestAuthentication, r *security.JWTRule) TokenRule {
	out := TokenRule{Source: p, Spec: r}
	if r.GetJwks() != "" {
		out.Keys, _ = config.ParseKeySet(r.GetJwks()) // the check tells
		return out
	}
	uri, _ := config.KeySetURI(r.GetIssuer(), r.GetJwksUri())
	if set, ok := ix.mesh.KeySets.Get(uri); ok {
		out.Keys, out.keysHash = set.JSON, set.Hash
	}
	return out
}

// TokenRule is the rule behind a provider of the filter that checks tokens, by
// the provider's name; nil if there is none.
func (s *Scope) TokenRule(provider string) *TokenRule {
	for i := range s.policies.tokens {
		if tokenProviderName(i) == provider {
			return &s.policies.tokens[i]
		}
	}
	return nil
}

func tokenProviderName(i int) string { return "origins-" + strconv.Itoa(i) }

// policies are what requests and connections to a workload must pass.
type policies struct {
	tokens []TokenRule
	access accessRules
}

func (p *policies) addTo(h config.Hasher) {
	h.Uint(uint64(len(p.tokens)))
	for i := range p.tokens {
		t := &p.tokens[i]
		h.Str(t.Source.Namespace, t.Source.Name).Proto(t.Spec).Bool(t.Keys != "").Hash(t.keysHash)
	}
	p.access.addTo(h)
}

// gatherPolicies finds what concerns the scope's workloads.
func (ix *Index) gatherPolicies(s *Scope) {
	s.policies.tokens = ix.tokenRules(s.Class.Namespace, s.Labels)
	s.policies.access = ix.accessRules(s)
}
