package translate

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Reader is who asks for a secret, as far as that decides which ones it may
// have.
type Reader struct {
	Namespace string
	// Gateway says that it is no sidecar. Labels, in canonical form, are a
	// gateway's only.
	Gateway bool
	Labels  string
}

// ReaderOf is the Reader that a proxy is. Its namespace must be proven.
func ReaderOf(p *config.Proxy) Reader {
	if p.Type != config.Router {
		return Reader{Namespace: p.Namespace}
	}
	return Reader{Namespace: p.Namespace, Gateway: true, Labels: canonicalLabels(p.Labels, sortedKeys(p.Labels))}
}

// granted reports whether a gateway may have a Secret of another namespace: a
// Gateway of the gateway's own namespace that selects it has a server for whose
// certificates or authority the Secret is, and a ReferenceGrant of the Secret's
// namespace lets Gateways of that namespace refer to it. As with Istio only the
// scheme kubernetes-gateway can name such a Secret.
func granted(m *config.Mesh, r Reader, name string) bool {
	if !r.Gateway || !strings.HasPrefix(name, gatewaySecretScheme) {
		return false
	}
	labels := parseLabels(r.Labels)
	for _, gw := range m.Gateways.In(r.Namespace) {
		if !config.Selects(gw.Spec.GetSelector(), labels) {
			continue
		}
		for _, s := range gw.Spec.GetServers() {
			if needs(s.GetTls(), name) && permitted(m, r.Namespace, name) {
				return true
			}
		}
	}
	return false
}

// needs reports whether a server's TLS settings are made of a secret.
func needs(s *networking.ServerTLSSettings, name string) bool {
	if len(s.GetCredentialNames()) == 0 && s.GetCredentialName() == "" {
		return false
	}
	own, authority := serverSecrets(s)
	return slices.Contains(own, name) || name == authority && asksForCertificate(s)
}

// permitted reports whether a ReferenceGrant lets Gateways of a namespace refer
// to the Secret of a name. Groups and kinds are those of the Gateway API:
// Istio's Gateway has none of its own there. An authority may be in the Secret
// of the credential or in one of its own, and a grant for either is enough.
func permitted(m *config.Mesh, from, name string) bool {
	ns, secret, ok := strings.Cut(strings.TrimPrefix(name, gatewaySecretScheme), "/")
	if !ok {
		return false
	}
	names := []string{secret, strings.TrimSuffix(secret, authoritySuffix)}
	return slices.ContainsFunc(m.ReferenceGrants.In(ns), func(g *config.ReferenceGrant) bool {
		return slices.ContainsFunc(g.Spec.From, func(f gatewayapi.ReferenceGrantFrom) bool {
			return f.Group == gatewayapi.GroupName && f.Kind == "Gateway" && string(f.Namespace) == from
		}) && slices.ContainsFunc(g.Spec.To, func(t gatewayapi.ReferenceGrantTo) bool {
			return t.Group == "" && t.Kind == "Secret" && (t.Name == nil || slices.Contains(names, string(*t.Name)))
		})
	})
}

func refused(ref secretRef, r Reader, name string) config.Problem {
	if !strings.HasPrefix(name, gatewaySecretScheme) {
		return secretProblem(ref.meta(), "SecretNotAllowed",
			"is read by a proxy of namespace %s: credentials must be in the proxy's own namespace; copy it there", r.Namespace)
	}
	return secretProblem(ref.meta(), "SecretNotAllowed",
		"is read by a proxy of namespace %s: copy it there, or have a Gateway of that namespace select the proxy and name it, and "+
			"a ReferenceGrant in namespace %s permit that", r.Namespace, ref.namespace)
}
