package pod

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	metrics "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// proxyConfig merges, later ones first: Istio's defaults, the mesh's file,
// PROXY_CONFIG and the pod's annotation. A set field replaces; maps merge.
func (s *settings) proxyConfig(annotation string) (*meshconfig.ProxyConfig, error) {
	out := &meshconfig.ProxyConfig{
		ConfigPath: configDir, BinaryPath: "/usr/local/bin/envoy",
		ClusterName:              &meshconfig.ProxyConfig_ServiceCluster{ServiceCluster: "istio-proxy"},
		DrainDuration:            durationpb.New(45 * time.Second),
		TerminationDrainDuration: durationpb.New(5 * time.Second),
		ProxyAdminPort:           agent.AdminPort, StatusPort: agent.StatusPort,
		DiscoveryAddress: "istiod.istio-system.svc:15012",
		StatNameLength:   189,
	}
	if file, err := os.ReadFile(s.file(meshFile)); err == nil {
		mesh := &meshconfig.MeshConfig{}
		if err := decodeYAML(file, mesh); err != nil {
			return nil, fmt.Errorf("%s: %w", meshFile, err)
		}
		overlay(out.ProtoReflect(), mesh.GetDefaultConfig().ProtoReflect())
	}
	for _, from := range []struct{ what, text string }{
		{"environment PROXY_CONFIG", s.env["PROXY_CONFIG"]},
		{"annotation proxy.istio.io/config", annotation},
	} {
		if strings.TrimSpace(from.text) == "" {
			continue
		}
		more := &meshconfig.ProxyConfig{}
		if err := decodeYAML([]byte(from.text), more); err != nil {
			return nil, fmt.Errorf("%s: %w", from.what, err)
		}
		overlay(out.ProtoReflect(), more.ProtoReflect())
	}
	s.concurrency(out)
	return out, nil
}

// concurrency is by the CPU limit unless it is set: with a thread for each of
// a large machine's cores Envoy would be throttled.
func (s *settings) concurrency(p *meshconfig.ProxyConfig) {
	if limit, err := strconv.ParseInt(s.env["ISTIO_CPU_LIMIT"], 10, 32); err == nil && limit > 0 && p.GetConcurrency() == nil {
		p.Concurrency = wrapperspb.Int32(int32(limit))
	}
	if s.Concurrency > 0 {
		p.Concurrency = wrapperspb.Int32(int32(s.Concurrency)) //nolint:gosec // a number of threads
	}
}

// decodeYAML reads YAML or JSON; fields of newer versions are skipped.
func decodeYAML(text []byte, into proto.Message) error {
	js, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	if bytes.Equal(js, []byte("null")) {
		return nil
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(js, into)
}

// overlay sets what from has set; of maps, the keys.
func overlay(to, from protoreflect.Message) {
	if !from.IsValid() {
		return
	}
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsMap() {
			to.Set(f, v)
			return true
		}
		m := to.Mutable(f).Map()
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			m.Set(k, v)
			return true
		})
		return true
	})
}

// The statistics that Envoy keeps in a pod, besides what the user asks for:
// those that readiness, draining, tools and dashboards read. All of them would
// cost more memory than everything else in a large mesh.
var (
	statPrefixes = []string{"cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "reporter=", "component"}
	statSuffixes = []string{"rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active"}
	statRegexes  = []string{`vhost\..*\.route\..*`}
)

func (s *settings) statsMatcher() *metrics.StatsMatcher {
	asked := s.proxy.GetProxyStatsMatcher()
	annotated := func(key string) []string { return commaList(s.node.Annotations["sidecar.istio.io/"+key]) }
	list := &matcher.ListStringMatcher{}
	add := func(make func(string) *matcher.StringMatcher, lists ...[]string) {
		for _, l := range lists {
			for _, v := range l {
				list.Patterns = append(list.Patterns, make(v))
			}
		}
	}
	add(func(v string) *matcher.StringMatcher {
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: v}}
	}, statPrefixes, asked.GetInclusionPrefixes(), annotated("statsInclusionPrefixes"))
	add(func(v string) *matcher.StringMatcher {
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Suffix{Suffix: v}}
	}, statSuffixes, asked.GetInclusionSuffixes(), annotated("statsInclusionSuffixes"))
	add(func(v string) *matcher.StringMatcher {
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_SafeRegex{SafeRegex: &matcher.RegexMatcher{Regex: v}}}
	}, statRegexes, asked.GetInclusionRegexps(), annotated("statsInclusionRegexps"))
	return &metrics.StatsMatcher{StatsMatcher: &metrics.StatsMatcher_InclusionList{InclusionList: list}}
}

func commaList(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// bootstrapOverride is the user's own part of the bootstrap as JSON, or empty.
func (s *settings) bootstrapOverride() (string, error) {
	file := s.get("ISTIO_BOOTSTRAP_OVERRIDE", "")
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(s.file(file))
	if err != nil {
		return "", fmt.Errorf("bootstrap override: %w", err)
	}
	host := s.env["HOST_IP"]
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
		b = bytes.ReplaceAll(b, []byte("[$(HOST_IP)]"), []byte(host))
	}
	js, err := yaml.YAMLToJSON(bytes.ReplaceAll(b, []byte("$(HOST_IP)"), []byte(host)))
	if err == nil && !json.Valid(js) {
		err = fmt.Errorf("not an object")
	}
	if err != nil {
		return "", fmt.Errorf("bootstrap override %s: %w", file, err)
	}
	return string(js), nil
}
