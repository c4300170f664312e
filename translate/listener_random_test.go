package translate_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestDrawnListeners draws meshes whose parts compete for the same few
// sockets, hosts and names. Whatever passes its checks makes listeners that
// pass their validation, ask for route tables that exist, and that a real
// Envoy takes.
func TestDrawnListeners(t *testing.T) {
	envoy := envoytest.Binary(t)
	meshes := 100
	if testing.Short() {
		meshes = 20
	}
	// Envoy wants one description of a DNS cache, which has the proxy's address
	// family in it: proxies of one family at a time.
	byFamily := map[bool][]json.RawMessage{}
	for seed := range meshes {
		d := drawn{rand.New(rand.NewPCG(uint64(seed), 7))}
		ix := translate.NewIndex(d.mesh())
		ix.Problems()
		tr := translate.NewTranslator(1000)
		for i, p := range d.proxies() {
			family := p.IPv6Only()
			byFamily[family] = append(byFamily[family],
				takeListeners(t, fmt.Sprintf("%d/%d", seed, i), ix, tr, p, len(byFamily[family]))...)
		}
	}
	for _, listeners := range byFamily {
		file := filepath.Join(t.TempDir(), "bootstrap.json")
		if err := os.WriteFile(file, bootstrapWith(t, listeners), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "error").CombinedOutput()
		if err != nil {
			t.Errorf("of %d listeners Envoy refuses: %v\n%s", len(listeners), err, out)
		}
	}
}

// takeListeners returns a proxy's listeners in JSON, under names and ports
// that no other has.
func takeListeners(t *testing.T, id string, ix *translate.Index, tr *translate.Translator, p *config.Proxy, n int) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	for _, c := range ix.Classes(p) {
		r := tr.Translate(ix.Scope(c))
		for _, res := range r.Listeners.Items() {
			l := &listener.Listener{}
			if err := proto.Unmarshal(res.Bytes(), l); err != nil {
				t.Fatal(err)
			}
			if err := l.ValidateAll(); err != nil {
				t.Errorf("%s: %s does not pass its validation: %v", id, res.Name, err)
			}
			for _, name := range res.Refs.Routes {
				if r.Routes.Get(name) == nil {
					t.Errorf("%s: %s asks for routes %q, which nobody makes", id, res.Name, name)
				}
			}
			l.Name = id + " " + l.Name
			port := uint32(1024 + (n+len(out))%60000)
			if s := l.GetAddress().GetSocketAddress(); s != nil {
				s.PortSpecifier = portOf(port)
				s.Address = fmt.Sprintf("127.0.%d.1", (n+len(out))/60000)
			}
			if p := l.GetAddress().GetPipe(); p != nil {
				p.Path = fmt.Sprint("/tmp/", n+len(out))
			}
			l.AdditionalAddresses = nil
			js, err := protojson.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, js)
		}
	}
	return out
}

// mesh draws a mesh of those objects that pass their checks.
func (d drawn) mesh() *config.Mesh {
	b := config.NewBuilder(nil)
	b.SetSettings(config.NewSettings(config.Meta{Key: config.Key{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}}, d.meshConfig(), "cluster.local"))
	for i := range 6 {
		s := d.service(i)
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, s)
		byPort := map[string][]config.Endpoint{}
		for _, p := range s.Ports {
			byPort[p.Name] = []config.Endpoint{{
				Address: pick(d, "10.1.0.1", "10.1.0.2", "fd00::7", "name.test", "unix:///x"), Port: 8080,
				MTLS: d.half(), Namespace: "default", ServiceAccount: pick(d, "", "a"), Labels: map[string]string{"app": "a"},
			}}
		}
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, config.NewEndpoints(s.ID(), byPort, config.Hash(i)))
	}
	put(b, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways }, "Gateway", "gw", d.gateway())
	put(b, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways }, "Gateway", "late", d.gateway())
	put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, "VirtualService", "a", d.forwarding())
	put(b, func(m *config.Mesh) *config.Index[*config.VirtualService] { return &m.VirtualServices }, "VirtualService", "b", d.forwarding())
	for i := range d.IntN(3) {
		put(b, func(m *config.Mesh) *config.Index[*config.PeerAuthentication] { return &m.PeerAuthentications },
			"PeerAuthentication", fmt.Sprint("peers", i), d.peers())
	}
	for i := range d.IntN(3) {
		putFaulty(b, func(m *config.Mesh) *config.Index[*config.RequestAuthentication] { return &m.RequestAuthentications },
			"RequestAuthentication", fmt.Sprint("tokens", i), d.tokens())
		putFaulty(b, func(m *config.Mesh) *config.Index[*config.AuthorizationPolicy] { return &m.AuthorizationPolicies },
			"AuthorizationPolicy", fmt.Sprint("access", i), d.access())
	}
	if d.half() {
		put(b, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars }, "Sidecar", "s", d.sidecar())
	}
	return b.Mesh()
}

// put adds an object that passes its checks, and says whether it does.
func put[T proto.Message](b *config.Builder, field func(*config.Mesh) *config.Index[*config.Object[T]], kind, name string, spec T) bool {
	meta := config.Meta{
		Key:     config.Key{Group: "networking.istio.io", Kind: kind, Namespace: "default", Name: name},
		Version: "v1", Hash: config.NewHasher().Str(kind, name).Proto(spec).Sum(),
	}
	for _, p := range translate.Check(&meta, spec) {
		if p.Severity == config.Error {
			return false
		}
	}
	config.Put(b, field, &config.Object[T]{Meta: meta, Spec: spec})
	return true
}

func (d drawn) proxies() []*config.Proxy {
	app := map[string]string{"app": pick(d, "a", "b"), "istio": "ingressgateway"}
	ips := pick(d, []string{"10.1.0.1"}, []string{"fd00::1"}, []string{"10.1.0.1", "fd00::1"})
	certificates, extensions := d.half(), pick(d, nil, []string{"envoy.filters.http.set_filter_state"})
	return []*config.Proxy{
		{Type: config.Router, Namespace: "default", Labels: app, IPs: ips, Unprivileged: d.rarely(), Certificates: certificates, Extensions: extensions},
		{
			Certificates: certificates, Extensions: extensions,
			Type: config.Sidecar, Namespace: "default", Labels: app, IPs: ips, DNSCapture: d.half(), Unprivileged: d.rarely(),
			Interception: pick(d, config.Redirect, config.TProxy, config.NoneMode), DNSDomain: "default.svc.cluster.local",
		},
	}
}

func (d drawn) protocol() config.Protocol {
	return pick(d, config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolTCP, config.ProtocolTLS, config.ProtocolHTTPS,
		config.ProtocolMongo, config.ProtocolUnset, config.ProtocolGRPCWeb, config.ProtocolUDP)
}

func (d drawn) port() uint32 { return pick[uint32](d, 80, 443, 3306, 8080, 15021) }

func (d drawn) service(i int) *config.Service {
	s := &config.Service{
		Meta:       config.Meta{Key: config.Key{Kind: "Service", Namespace: pick(d, "default", "other"), Name: fmt.Sprint("s", i)}, Hash: config.Hash(i + 1)},
		Hostname:   pick(d, fmt.Sprintf("s%d.default.svc.cluster.local", i), fmt.Sprintf("s%d.test", i), fmt.Sprintf("*.s%d.test", i)),
		Resolution: config.Resolution(d.IntN(5)), Kubernetes: d.half(), ExportTo: config.Visibility{Public: true},
		Addresses:     pick(d, nil, nil, []string{"10.0.0.1"}, []string{"10.0.0.1", "10.2.0.0/16"}, []string{"fd00::2", "10.0.0.2"}, []string{"10.2.0.0/16", "10.2.3.4/16"}),
		AutoAddresses: pick(d, nil, []string{"240.240.0.1"}, []string{"240.240.0.1", "2001:2::1"}),
		Selector:      pick(d, nil, map[string]string{"app": "a"}),
	}
	s.Headless = len(s.Addresses) == 0 && s.Kubernetes && s.Resolution == config.ResolvePassthrough
	seen := map[uint32]bool{}
	for range 1 + d.IntN(3) {
		if n := d.port(); !seen[n] {
			seen[n] = true
			s.Ports = append(s.Ports, config.ServicePort{Name: fmt.Sprint("p", n), Number: n, Protocol: d.protocol(), TargetPort: pick[uint32](d, 0, 8080, n)})
		}
	}
	return s
}

func (d drawn) hostName() string {
	if d.rarely() {
		return pick(d, "", "*", "under_score.test", "a..b", "UPPER.test", "10.0.0.1", d.text())
	}
	return pick(d, "s0.test", "*.test", "*", "s1.default.svc.cluster.local", "*.s2.test", "a.s2.test", "s3.test", "S3.test", "*.default.svc.cluster.local")
}

func (d drawn) names(n int) []string {
	var out []string
	for range 1 + d.IntN(n) {
		out = append(out, d.hostName())
	}
	return out
}

func (d drawn) gateway() *networking.Gateway {
	gw := &networking.Gateway{Selector: pick(d, map[string]string{"istio": "ingressgateway"}, nil)}
	for i := range 1 + d.IntN(4) {
		s := &networking.Server{
			Port:  &networking.Port{Number: d.port(), Name: fmt.Sprint("p", i), Protocol: pick(d, "HTTP", "HTTPS", "TLS", "TCP", "GRPC", "HTTPS")},
			Bind:  pick(d, "", "", "", "10.1.0.1", "0.0.0.0"),
			Hosts: d.names(3),
			Name:  pick(d, "", "named"),
		}
		for j := range s.Hosts {
			s.Hosts[j] = pick(d, "", "", "./", "*/", "other/") + s.Hosts[j]
		}
		if s.Port.Protocol == "HTTPS" || s.Port.Protocol == "TLS" {
			s.Tls = d.serverTLS()
		}
		gw.Servers = append(gw.Servers, s)
	}
	return gw
}

func (d drawn) serverTLS() *networking.ServerTLSSettings {
	t := &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_TLSmode(d.IntN(6))}
	switch d.IntN(4) {
	case 0:
		t.CredentialName = pick(d, "cert", "kubernetes://cert", "a b", d.text())
	case 1:
		t.CredentialNames = []string{"rsa", "ecdsa"}
	case 2:
		t.ServerCertificate, t.PrivateKey, t.CaCertificates = "/c", "/k", "/ca"
		t.CaCrl = pick(d, "", "/crl")
	}
	t.MinProtocolVersion = networking.ServerTLSSettings_TLSProtocol(d.IntN(5))
	t.MaxProtocolVersion = networking.ServerTLSSettings_TLSProtocol(d.IntN(5))
	t.CipherSuites = pick(d, nil, []string{"ECDHE-RSA-AES128-GCM-SHA256"}, []string{"NOPE", "AES128-SHA", "AES128-SHA"})
	t.SubjectAltNames = pick(d, nil, []string{"spiffe://a/b", d.text()})
	t.VerifyCertificateSpki = pick(d, nil, []string{"NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A="}, []string{d.text()})
	return t
}

func (d drawn) peers() *security.PeerAuthentication {
	mode := func() *security.PeerAuthentication_MutualTLS {
		return &security.PeerAuthentication_MutualTLS{Mode: security.PeerAuthentication_MutualTLS_Mode(d.IntN(5))}
	}
	p := &security.PeerAuthentication{Mtls: mode()}
	if d.half() {
		p.Selector = &typev1beta1.WorkloadSelector{MatchLabels: map[string]string{"app": pick(d, "a", "b")}}
		p.PortLevelMtls = map[uint32]*security.PeerAuthentication_MutualTLS{pick[uint32](d, 0, 80, 8080, 15006, 70000): mode(), 9: mode()}
	}
	return p
}

const someKeys = `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

func (d drawn) tokens() *security.RequestAuthentication {
	p := &security.RequestAuthentication{}
	for range 1 + d.IntN(3) {
		p.JwtRules = append(p.JwtRules, &security.JWTRule{
			Issuer: pick(d, "a", "https://b.test", "", d.text()), Jwks: pick(d, "", someKeys, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[]}`, d.text()),
			JwksUri: pick(d, "", "https://keys.test", d.text()), Audiences: pick(d, nil, []string{"", d.text()}),
			FromHeaders:           pick(d, nil, []*security.JWTHeader{{Name: pick(d, "x-jwt", "", d.text()), Prefix: d.text()}}),
			FromParams:            pick(d, nil, []string{d.text()}),
			FromCookies:           pick(d, nil, []string{d.text()}),
			OutputPayloadToHeader: pick(d, "", "x-payload", d.text()),
			OutputClaimToHeaders:  pick(d, nil, []*security.ClaimToHeader{{Header: pick(d, "x-a", "", d.text()), Claim: pick(d, "a.b", "", d.text())}}),
			SpaceDelimitedClaims:  pick(d, nil, []string{"scope", d.text()}),
		})
	}
	return p
}

func (d drawn) access() *security.AuthorizationPolicy {
	values := func(some ...string) []string {
		if d.half() {
			return nil
		}
		return []string{pick(d, some...), pick(d, "", "*", "**", "a*", "*a", "a*b", d.text()), pick(d, some...)}
	}
	p := &security.AuthorizationPolicy{Action: security.AuthorizationPolicy_Action(d.IntN(5))}
	if d.half() {
		p.ActionDetail = &security.AuthorizationPolicy_Provider{Provider: &security.AuthorizationPolicy_ExtensionProvider{Name: pick(d, "http", "grpc", "gone")}}
	}
	for range d.IntN(3) {
		r := &security.Rule{}
		for range d.IntN(3) {
			r.From = append(r.From, &security.Rule_From{Source: &security.Source{
				Principals: values("cluster.local/ns/a/sa/b", "*/sa/b"), NotPrincipals: values("cluster.local/*"), RequestPrincipals: values("iss/sub", "*/sub"),
				Namespaces: values("a"), ServiceAccounts: values("a/b", "c"), IpBlocks: values("10.0.0.1", "fd00::/8"), NotRemoteIpBlocks: values("10.0.0.0/33"),
				TrustDomains: values("cluster.local"),
			}})
		}
		for range d.IntN(3) {
			r.To = append(r.To, &security.Rule_To{Operation: &security.Operation{
				Hosts: values("a.test", "a.test:80"), NotHosts: values("*.test"), Ports: values("80", "0", "70000"), Methods: values("GET"),
				Paths: values("/a", "/{*}/b", "/{**}", "/{**}/{*}", "/a{*}", "//{*}", "/{*}/", "/{**}/x/", "{*}", "/%41/{**}", "/é/{*}"), NotPaths: values("/a?b"),
			}})
		}
		for range d.IntN(3) {
			r.When = append(r.When, &security.Condition{
				Key: pick(d, "request.headers[x-a]", "request.headers[a b]", "request.headers[:path]", "request.headers[]", "request.auth.claims[a][b]", "request.auth.claims[]",
					"request.auth.audiences", "source.ip", "connection.sni", "destination.port", "experimental.envoy.filters.a[b]", "experimental.envoy.filters.[b]", "experimental.envoy.filters.a[]", d.text()),
				Values: values("v", "[v]", "10.0.0.1"), NotValues: values("v", "[v*]"),
			})
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

// putFaulty puts a policy also if it does not pass its checks: policies that
// restrict are in effect then, too, and must not break a listener.
func putFaulty[T proto.Message](b *config.Builder, field func(*config.Mesh) *config.Index[*config.Object[T]], kind, name string, spec T) {
	meta := config.Meta{
		Key:     config.Key{Group: "security.istio.io", Kind: kind, Namespace: "default", Name: name},
		Version: "v1", Hash: config.NewHasher().Str(kind, name).Proto(spec).Sum(),
	}
	translate.Check(&meta, spec)
	config.Put(b, field, &config.Object[T]{Meta: meta, Spec: spec})
}

func (d drawn) subnets() []string {
	return pick(d, nil, nil, []string{"10.0.0.0/8"}, []string{"10.0.0.1", "10.0.0.1/32"}, []string{"10.2.0.0/16", "fd00::/8"}, []string{"10.2.9.9/16", d.text()})
}

func (d drawn) routeTo() []*networking.RouteDestination {
	var out []*networking.RouteDestination
	for range 1 + d.IntN(3) {
		out = append(out, &networking.RouteDestination{Destination: d.destination(), Weight: pick[int32](d, 0, 1, 50, 100)})
	}
	return out
}

// forwarding draws a VirtualService with tcp and tls routes.
func (d drawn) forwarding() *networking.VirtualService {
	vs := &networking.VirtualService{Hosts: d.names(2), Gateways: pick(d, nil, []string{"gw"}, []string{"mesh", "gw", "late"})}
	for range d.IntN(3) {
		r := &networking.TLSRoute{Route: d.routeTo()}
		for range 1 + d.IntN(2) {
			r.Match = append(r.Match, &networking.TLSMatchAttributes{
				SniHosts: d.names(3), DestinationSubnets: d.subnets(), Port: pick[uint32](d, 0, 0, 443),
				SourceLabels: pick(d, nil, map[string]string{"app": "a"}), Gateways: pick(d, nil, []string{"mesh"}, []string{"gw"}),
			})
		}
		vs.Tls = append(vs.Tls, r)
	}
	for range d.IntN(3) {
		r := &networking.TCPRoute{Route: d.routeTo()}
		for range d.IntN(3) {
			r.Match = append(r.Match, &networking.L4MatchAttributes{DestinationSubnets: d.subnets(), Port: pick[uint32](d, 0, 0, 3306)})
		}
		vs.Tcp = append(vs.Tcp, r)
	}
	return vs
}

func (d drawn) sidecar() *networking.Sidecar {
	s := &networking.Sidecar{}
	for range d.IntN(3) {
		s.Ingress = append(s.Ingress, &networking.IstioIngressListener{
			Port: &networking.SidecarPort{Number: d.port(), Protocol: pick(d, "HTTP", "TCP", "HTTPS")}, DefaultEndpoint: "127.0.0.1:8080",
			Bind: pick(d, "", "10.1.0.1"), CaptureMode: networking.CaptureMode(d.IntN(3)),
			Tls: pick(d, nil, nil, &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_SIMPLE, ServerCertificate: "/c", PrivateKey: "/k"}),
		})
	}
	for range d.IntN(3) {
		l := &networking.IstioEgressListener{
			Port: &networking.SidecarPort{Number: d.port(), Protocol: pick(d, "HTTP", "TCP", "TLS", "HTTP_PROXY", "MONGO")},
			Bind: pick(d, "", "127.0.0.1", "unix:///tmp/x"), CaptureMode: networking.CaptureMode(d.IntN(3)), Hosts: []string{"*/*"},
		}
		if l.Bind == "unix:///tmp/x" {
			l.Port.Number = 0
		}
		s.Egress = append(s.Egress, l)
	}
	s.Egress = append(s.Egress, &networking.IstioEgressListener{Hosts: []string{pick(d, "./*", "*/*", "~/*", "other/*", "*/*.test")}})
	return s
}

func (d drawn) meshConfig() *meshconfig.MeshConfig {
	mc := config.DefaultMeshConfig()
	mc.AccessLogFile = pick(d, "", "/dev/stdout")
	mc.AccessLogEncoding = meshconfig.MeshConfig_AccessLogEncoding(d.IntN(2))
	mc.AccessLogFormat = pick(d, "", "%START_TIME%", `{"a": "%PROTOCOL%"}`)
	mc.ProxyHttpPort = pick[int32](d, 0, 15002, -1, 99999)
	mc.ProxyListenPort = pick[int32](d, 15001, 15001, 0, 80000)
	mc.ProtocolDetectionTimeout = d.duration()
	mc.OutboundTrafficPolicy.Mode = pick(d, meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY,
		meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY, meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS)
	mc.PathNormalization.Normalization = meshconfig.MeshConfig_ProxyPathNormalization_NormalizationType(d.IntN(5))
	mc.DefaultConfig.ConnectionSettings = &meshconfig.ProxyConfig_ConnectionSettings{
		Profile: meshconfig.ProxyConfig_ConnectionSettings_Profile(d.IntN(2)), HttpIdleTimeout: d.duration(), HttpRequestTimeout: d.duration(),
		HttpStreamIdleTimeout: d.duration(), HttpDrainTimeout: d.duration(), HttpMaxStreamDuration: d.duration(),
	}
	mc.ExtensionProviders = []*meshconfig.MeshConfig_ExtensionProvider{
		{Name: "http", Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzHttp{EnvoyExtAuthzHttp: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationHttpProvider{
			Service: "s0.test", Port: 80, PathPrefix: pick(d, "", "/x", "x"), StatusOnError: pick(d, "", "503", "999", "x"), Timeout: d.duration(),
			IncludeRequestHeadersInCheck: pick(d, nil, []string{"*", "x*", "", d.text()}), HeadersToUpstreamOnAllow: pick(d, nil, []string{"x", "*y"}),
			IncludeAdditionalHeadersInCheck: pick(d, nil, map[string]string{"x-a": "b"}, map[string]string{d.text(): d.text(), "": ""}),
			IncludeRequestBodyInCheck:       pick(d, nil, &meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationRequestBody{MaxRequestBytes: pick[uint32](d, 0, 100)}),
		}}},
		{Name: "grpc", Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc{EnvoyExtAuthzGrpc: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider{
			Service: "s1.test", Port: 443, Timeout: d.duration(),
		}}},
	}
	mc.MeshMTLS = pick(d, nil, &meshconfig.MeshConfig_TLSConfig{CipherSuites: []string{"NOPE", "AES128-SHA"}, MinProtocolVersion: meshconfig.MeshConfig_TLSConfig_TLSV1_3})
	mc.TlsDefaults = pick(d, nil, &meshconfig.MeshConfig_TLSConfig{CipherSuites: []string{"NOPE"}, EcdhCurves: []string{"P-256", "nope"}})
	return mc
}
