package translate

import (
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// FuzzDestinationRule: a rule that passes its checks makes clusters that pass
// Envoy's validation, for services of every resolution, and never a panic.
func FuzzDestinationRule(f *testing.F) {
	AddCases(f, "DestinationRule")
	for _, s := range []string{
		`{"host": "a", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x", "maglev": {"tableSize": "65537"}}}}}`,
		`{"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH", "warmup": {"duration": "3s", "aggression": 0.1}}}}`,
		`{"host": "a", "trafficPolicy": {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "*", "to": {"a/*": 100}}]}}}}`,
		`{"host": "a", "trafficPolicy": {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.istio.io/network", "b=c"], "failover": [{"from": "a", "to": "b"}]}}, "outlierDetection": {}}}`,
		`{"host": "a", "trafficPolicy": {"loadBalancer": {"zoneAwareLbSetting": {"failoverPriority": ["x"], "minClusterSize": 3}}}}`,
		`{"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1, "idleTimeout": "0s", "tcpKeepalive": {"time": "1.5s"}}, "http": {"h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 2, "http2KeepAlive": {"interval": "1s", "timeout": "1s"}}}}}`,
		`{"host": "a", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0, "minHealthPercent": 50, "outlierDetectionHttpErrorCodes": [500]}}}`,
		`{"host": "a", "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "kubernetes://a/b"}, "proxyProtocol": {"version": "V2"}, "retryBudget": {"percent": 1}}}`,
		`{"host": "a", "trafficPolicy": {"tls": {"mode": "SIMPLE", "subjectAltNames": ["spiffe://a"], "caCrl": "/x"}, "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL"}}]}}`,
		`{"host": "a", "subsets": [{"name": "v1", "labels": {"a": "b"}, "trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, "connectionPool": {"http": {"useClientProtocol": true}}}]}}], "workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["."]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &networking.DestinationRule{}
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(config.PlainDurations(data, spec.ProtoReflect().Descriptor()), spec) != nil {
			return
		}
		meta := config.Meta{Key: config.Key{Kind: "DestinationRule", Namespace: "ns", Name: "a"}}
		for _, p := range Check(&meta, spec) {
			if p.Severity == config.Error {
				return
			}
		}
		spec.Host = "a"
		clustersPass(t, &config.DestinationRule{Meta: meta, Spec: spec})
	})
}

func clustersPass(t *testing.T, dr *config.DestinationRule) {
	t.Helper()
	for resolution := config.ResolveEDS; resolution <= config.ResolveDynamicDNS; resolution++ {
		s := &config.Service{
			Meta:     config.Meta{Key: config.Key{Kind: "Service", Namespace: "ns", Name: "a"}},
			Hostname: "a.ns.svc.cluster.local", Resolution: resolution, ExportTo: config.Visibility{Public: true},
			Ports: []config.ServicePort{{Name: "h", Number: 80, Protocol: config.ProtocolHTTP}, {Name: "u", Number: 81}, {Name: "g", Number: 82, Protocol: config.ProtocolGRPC}},
		}
		b := config.NewBuilder(nil)
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Service] { return &m.Services }, s)
		config.Put(b, func(m *config.Mesh) *config.Index[*config.Endpoints] { return &m.Endpoints }, endpointsFor(s, 1))
		config.Put(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, dr)
		ix := NewIndex(b.Mesh())
		ix.destinationRuleProblems()
		for _, kind := range []config.ProxyType{config.Sidecar, config.Router} {
			p := &config.Proxy{Type: kind, Namespace: "ns", IPs: []string{"10.0.0.1"}, Interception: config.Redirect, Labels: map[string]string{"a": "b"}}
			built := clustersIn(NewTranslator(100), ix.Scope(ix.Classes(p)[0]))
			for _, r := range built.clusters {
				c := &cluster.Cluster{}
				if err := proto.Unmarshal(r.Bytes(), c); err != nil {
					t.Fatal(err)
				}
				if err := c.ValidateAll(); err != nil {
					t.Fatalf("%s: %v", r.Name, err)
				}
			}
			eps, _ := ix.mesh.Endpoints.Get(s.Namespace, s.Hostname)
			for i := range built.endpoints {
				if NewTranslator(1).Endpoints(&built.endpoints[i], eps, ViewerOf(p)) == nil {
					t.Fatalf("%s has no assignment", built.endpoints[i].Cluster)
				}
			}
		}
	}
}
