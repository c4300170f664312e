package discovery

import (
	"cmp"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// derived is an object that another stands for, at the other's place.
func derived(from *Object, key config.Key, spec proto.Message) *Object {
	m := config.Meta{Key: key, Version: "v1", Created: from.Meta.Created, File: from.Meta.File, Line: from.Meta.Line}
	m.Hash = config.NewHasher().Str(m.Group, m.Kind, m.Namespace, m.Name).Hash(from.Meta.Hash).Proto(spec).Sum()
	return &Object{Meta: m, Body: spec}
}

// gatewayOfIngress serves plain HTTP for every host, and HTTPS for those that
// the Ingress has certificates for.
func (d *derivation) gatewayOfIngress(n name, ing *networkingv1.Ingress) *networking.Gateway {
	gw := &networking.Gateway{Selector: d.ingressSelector()}
	for i, t := range ing.Spec.TLS {
		if t.SecretName == "" {
			continue
		}
		s := &networking.Server{
			Port: &networking.Port{Number: 443, Protocol: "HTTPS", Name: fmt.Sprintf("https-443-ingress-%s-%s-%d", n.name, n.ns, i)},
			Tls:  &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_SIMPLE, CredentialName: t.SecretName},
		}
		if s.Hosts = t.Hosts; len(s.Hosts) == 0 {
			s.Hosts = []string{"*"}
		}
		gw.Servers = append(gw.Servers, s)
	}
	gw.Servers = append(gw.Servers, &networking.Server{
		Port:  &networking.Port{Number: 80, Protocol: "HTTP", Name: fmt.Sprintf("http-80-ingress-%s-%s", n.name, n.ns)},
		Hosts: []string{"*"},
	})
	return gw
}

// ingressSelector is of the gateways that serve Ingresses: ingressSelector of
// MeshConfig, or what belongs to ingressService.
func (d *derivation) ingressSelector() map[string]string {
	label := cmp.Or(d.settings.Mesh.GetIngressSelector(), d.settings.Mesh.GetIngressService())
	if label == "" || label == "istio-ingressgateway" {
		label = "ingressgateway"
	}
	return map[string]string{"istio": label}
}

// destinationOfBackend is the Service and port that a backend means, or what is
// wrong with it.
func (d *derivation) destinationOfBackend(n name, b *networkingv1.IngressBackend) (_ *networking.Destination, fault string) {
	switch {
	case b.Resource != nil:
		return nil, "names a resource; want a service"
	case b.Service == nil:
		return nil, "names no service"
	}
	to := name{n.ns, b.Service.Name}
	port := uint32(b.Service.Port.Number) //nolint:gosec // the API bounds it
	if wanted := b.Service.Port.Name; port == 0 {
		svc, ok := d.services[to]
		if !ok {
			return nil, fmt.Sprintf("names port %q of Service %s, which does not exist", wanted, b.Service.Name)
		}
		spec, _ := svc.Body.(*corev1.Service)
		for _, p := range spec.Spec.Ports {
			if p.Name == wanted {
				port = uint32(p.Port) //nolint:gosec // the API bounds it
			}
		}
		if port == 0 {
			return nil, fmt.Sprintf("names port %q, which Service %s does not have", wanted, b.Service.Name)
		}
	}
	return &networking.Destination{Host: d.hostnameOf(to).Hostname, Port: &networking.PortSelector{Number: port}}, ""
}

// matchesOfPath are the paths that a rule is for (the API's documentation of
// PathType). A prefix ends between two elements of a path. Without a type an
// ending of ".*" or "/*" means a prefix, as it does in Istio.
func matchesOfPath(p *networkingv1.HTTPIngressPath) []*networking.HTTPMatchRequest {
	exact := &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: p.Path}}
	prefix := func(text string) *networking.StringMatch {
		return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: text}}
	}
	kind := networkingv1.PathTypeImplementationSpecific
	if p.PathType != nil {
		kind = *p.PathType
	}
	var uris []*networking.StringMatch
	switch base := strings.TrimRight(p.Path, "/"); {
	case p.Path == "":
		return nil
	case kind == networkingv1.PathTypeExact:
		uris = []*networking.StringMatch{exact}
	case kind == networkingv1.PathTypePrefix && base == "":
		uris = []*networking.StringMatch{prefix("/")}
	case kind == networkingv1.PathTypePrefix:
		exact.MatchType = &networking.StringMatch_Exact{Exact: base}
		uris = []*networking.StringMatch{exact, prefix(base + "/")}
	case strings.HasSuffix(p.Path, ".*"):
		uris = []*networking.StringMatch{prefix(strings.TrimSuffix(p.Path, ".*"))}
	case strings.HasSuffix(p.Path, "/*"):
		uris = []*networking.StringMatch{prefix(strings.TrimSuffix(p.Path, "*"))}
	default:
		uris = []*networking.StringMatch{exact}
	}
	var out []*networking.HTTPMatchRequest
	for _, u := range uris {
		out = append(out, &networking.HTTPMatchRequest{Uri: u})
	}
	return out
}

// longestFirst orders routes as Ingresses do: the longest path decides, and of
// two that are as long the exact one. A route without a match comes last.
func longestFirst(a, b *networking.HTTPRoute) int {
	length := func(r *networking.HTTPRoute) (n int, onlyExact bool) {
		onlyExact = len(r.GetMatch()) == 1
		for _, m := range r.GetMatch() {
			text := cmp.Or(m.GetUri().GetExact(), m.GetUri().GetPrefix())
			n = max(n, len(strings.TrimRight(text, "/"))+1)
			onlyExact = onlyExact && m.GetUri().GetExact() != ""
		}
		return n, onlyExact
	}
	la, ea := length(a)
	lb, eb := length(b)
	if la != lb || ea == eb {
		return cmp.Compare(lb, la)
	}
	if ea {
		return -1
	}
	return 1
}

func indexedPath(list string, i int, inner string, j int) string {
	return fmt.Sprintf("%s[%d].%s[%d]", list, i, inner, j)
}
