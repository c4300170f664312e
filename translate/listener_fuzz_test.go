package translate

import (
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// FuzzGateway: a Gateway that passes its checks makes listeners that pass
// Envoy's validation, and never a panic.
func FuzzGateway(f *testing.F) {
	AddCases(f, "Gateway")
	for _, s := range []string{
		`{"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}], "selector": {"a": "b"}}`,
		`{"servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["./a.test", "*.b.test"], "tls": {"mode": "MUTUAL", "credentialName": "c", "subjectAltNames": ["x"], "cipherSuites": ["AES128-SHA"], "minProtocolVersion": "TLSV1_2"}}]}`,
		`{"servers": [{"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["*"], "tls": {"mode": "AUTO_PASSTHROUGH"}}, {"port": {"number": 444, "name": "t", "protocol": "TLS"}, "hosts": ["a.test"], "tls": {"mode": "PASSTHROUGH"}}]}`,
		`{"servers": [{"port": {"number": 0, "name": "u", "protocol": "TCP"}, "bind": "unix:///x", "hosts": ["a/a.test"]}, {"port": {"number": 81, "name": "v", "protocol": "HTTP"}, "bind": "::1", "hosts": ["a.test"], "tls": {"httpsRedirect": true}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &networking.Gateway{}
		meta := config.Meta{Key: config.Key{Kind: "Gateway", Namespace: "ns", Name: "a"}}
		if !passes(data, &meta, spec) {
			return
		}
		b := fuzzedMesh()
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Gateway] { return &m.Gateways }, &config.Gateway{Meta: meta, Spec: spec})
		listenersPass(t, b.Mesh(), &config.Proxy{Type: config.Router, Namespace: "ns", IPs: []string{"10.0.0.1"}, Labels: spec.GetSelector()})
	})
}

// FuzzSidecar is the same for Sidecars, with every way of interception.
func FuzzSidecar(f *testing.F) {
	AddCases(f, "Sidecar")
	for _, s := range []string{
		`{"egress": [{"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["./*", "~other/*"]}, {"hosts": ["*/a.ns.svc.cluster.local"]}]}`,
		`{"egress": [{"port": {"protocol": "TCP"}, "bind": "unix://@x", "hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "a", "port": {"number": 1}}}}`,
		`{"ingress": [{"port": {"number": 9080, "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:80", "captureMode": "NONE", "bind": "::1"}, {"port": {"number": 9443, "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"}}]}`,
		`{"workloadSelector": {"labels": {"a": "b"}}, "egress": [{"port": {"number": 3128, "protocol": "HTTP_PROXY"}, "captureMode": "NONE", "bind": "127.0.0.1", "hosts": ["*/*"]}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &networking.Sidecar{}
		meta := config.Meta{Key: config.Key{Kind: "Sidecar", Namespace: "ns", Name: "a"}}
		if !passes(data, &meta, spec) {
			return
		}
		b := fuzzedMesh()
		config.Put(b, func(m *config.Mesh) *config.Index[*config.SidecarScope] { return &m.Sidecars }, &config.SidecarScope{Meta: meta, Spec: spec})
		m := b.Mesh()
		for _, how := range []config.Interception{config.Redirect, config.TProxy, config.NoneMode} {
			listenersPass(t, m, &config.Proxy{
				Type: config.Sidecar, Namespace: "ns", IPs: []string{"10.0.0.1"}, Interception: how,
				Labels: spec.GetWorkloadSelector().GetLabels(),
			})
		}
	})
}

// FuzzMeshConfig: whatever the mesh's settings hold, listeners pass Envoy's
// validation: a mistake there must not take all of them down.
func FuzzMeshConfig(f *testing.F) {
	AddCases(f, "ConfigMap")
	for _, s := range []string{
		`{"proxyListenPort": 70000, "proxyHttpPort": -1, "accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "accessLogFormat": "{"}`,
		`{"defaultConfig": {"connectionSettings": {"profile": "EDGE", "httpIdleTimeout": "-1s", "http2InitialStreamWindowSize": 1}, "gatewayTopology": {"proxyProtocol": {}, "numTrustedProxies": 3}}}`,
		`{"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}, "protocolDetectionTimeout": "-5s", "pathNormalization": {"normalization": "NONE"}}`,
		`{"extensionProviders": [{"name": "x", "envoyFileAccessLog": {"path": ""}}], "defaultProviders": {"accessLogging": ["x", "y", "envoy"]}, "tlsDefaults": {"ecdhCurves": ["x"]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mc := &meshconfig.MeshConfig{}
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, mc) != nil {
			return
		}
		b := fuzzedMesh()
		b.SetSettings(config.NewSettings(config.Meta{Key: config.Key{Kind: "ConfigMap", Name: "istio"}}, mc, "cluster.local"))
		m := b.Mesh()
		for _, kind := range []config.ProxyType{config.Sidecar, config.Router} {
			listenersPass(t, m, &config.Proxy{Type: kind, Namespace: "ns", IPs: []string{"10.0.0.1"}, Interception: config.Redirect})
		}
	})
}

// passes reads a specification and reports whether it would be put into
// effect.
func passes(data []byte, meta *config.Meta, spec proto.Message) bool {
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, spec) != nil {
		return false
	}
	for _, p := range Check(meta, spec) {
		if p.Severity == config.Error {
			return false
		}
	}
	meta.Hash = config.NewHasher().Proto(spec).Sum()
	return true
}

func fuzzedMesh() *config.Builder {
	b := config.NewBuilder(nil)
	config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, &config.Service{
		Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "ns", Name: "a"}},
		Hostname: "a.ns.svc.cluster.local", Addresses: []string{"10.0.0.9"}, ExportTo: config.Visibility{Public: true},
		Ports: []config.ServicePort{{Name: "h", Number: 80, Protocol: config.ProtocolHTTP}, {Name: "u", Number: 81}, {Name: "t", Number: 443, Protocol: config.ProtocolTLS}},
	})
	return b
}

func listenersPass(t *testing.T, m *config.Mesh, p *config.Proxy) {
	t.Helper()
	ix := NewIndex(m)
	ix.Problems()
	for _, c := range ix.Classes(p) {
		r := NewTranslator(100).Translate(ix.Scope(c))
		for _, res := range r.Listeners.Items() {
			l := &listener.Listener{}
			if err := proto.Unmarshal(res.Bytes(), l); err != nil {
				t.Fatal(err)
			}
			if err := l.ValidateAll(); err != nil {
				t.Fatalf("%s: %v", res.Name, err)
			}
			for _, fc := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
				for _, filter := range fc.GetFilters() {
					m, err := filter.GetTypedConfig().UnmarshalNew()
					if err != nil {
						t.Fatal(err)
					}
					if v, ok := m.(interface{ ValidateAll() error }); ok {
						if err := v.ValidateAll(); err != nil {
							t.Fatalf("%s %s: %v", res.Name, fc.GetName(), err)
						}
					}
				}
			}
			for _, name := range res.Refs.Routes {
				if r.Routes.Get(name) == nil {
					t.Fatalf("%s asks for routes %q, which nobody makes", res.Name, name)
				}
			}
		}
	}
}
