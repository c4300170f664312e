package pod

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// proxyConfig is what the agent itself reads of mesh.v1alpha1.ProxyConfig; all
// of it goes on to the control plane.
type proxyConfig struct {
	ConfigPath               string            `json:"configPath"`
	BinaryPath               string            `json:"binaryPath"`
	DiscoveryAddress         string            `json:"discoveryAddress"`
	DrainDuration            duration          `json:"drainDuration"`
	TerminationDrainDuration duration          `json:"terminationDrainDuration"`
	ProxyAdminPort           uint16            `json:"proxyAdminPort"`
	StatusPort               uint16            `json:"statusPort"`
	Concurrency              *uint16           `json:"concurrency"`
	ControlPlaneAuthPolicy   string            `json:"controlPlaneAuthPolicy"`
	ProxyMetadata            map[string]string `json:"proxyMetadata"`
	FileFlushInterval        *duration         `json:"fileFlushInterval"`
	FileFlushMinSizeKb       uint32            `json:"fileFlushMinSizeKb"`
	ServiceCluster           string            `json:"serviceCluster"`
	TracingServiceName       string            `json:"tracingServiceName"`
	StatsdUDPAddress         string            `json:"statsdUdpAddress"`
	MetricsServiceAddress    string            `json:"envoyMetricsServiceAddress"`
	MetricsService           *remoteService    `json:"envoyMetricsService"`
	CustomConfigFile         string            `json:"customConfigFile"`
	RuntimeValues            map[string]string `json:"runtimeValues"`
	MeshID                   string            `json:"meshId"`
	StatsCompression         *bool             `json:"statsCompression"`
	ConnectionSettings       struct {
		GlobalLimit   *int32 `json:"globalDownstreamConnectionLimit"`
		ListenerLimit *int32 `json:"listenerConnectionLimit"`
	} `json:"connectionSettings"`
	ReadinessProbe    *readinessProbe `json:"readinessProbe"`
	ProxyStatsMatcher struct {
		InclusionPrefixes []string `json:"inclusionPrefixes"`
		InclusionSuffixes []string `json:"inclusionSuffixes"`
		InclusionRegexps  []string `json:"inclusionRegexps"`
	} `json:"proxyStatsMatcher"`
}

// duration is protobuf's in JSON: "4.5s".
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q: want a duration such as 5s", s)
	}
	*d = duration(v)
	return nil
}

// proxyDefaults are Istio's.
func proxyDefaults() map[string]any {
	return map[string]any{
		"configPath": configDir, "binaryPath": "/usr/local/bin/envoy",
		"drainDuration": "45s", "terminationDrainDuration": "5s", "discoveryAddress": "istiod.istio-system.svc:15012",
		"proxyAdminPort": agent.AdminPort, "statusPort": agent.StatusPort, "statNameLength": 189,
	}
}

// readProxyConfig merges, later ones first: Istio's defaults, the mesh's file,
// PROXY_CONFIG and the pod's annotations. A field replaces; of proxyMetadata,
// a key.
func (s *settings) readProxyConfig(annotations map[string]string) error {
	all := proxyDefaults()
	if file, err := os.ReadFile(s.file(meshFile)); err == nil {
		mesh, err := decodeYAML(file)
		if err != nil {
			return fmt.Errorf("%s: %w", meshFile, err)
		}
		if c, ok := mesh["defaultConfig"].(map[string]any); ok {
			overlay(all, c)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, from := range []struct{ what, text string }{
		{"environment PROXY_CONFIG", s.env["PROXY_CONFIG"]},
		{"annotation proxy.istio.io/config", annotations["proxy.istio.io/config"]},
	} {
		more, err := decodeYAML([]byte(from.text))
		if err != nil {
			return fmt.Errorf("%s: %w", from.what, err)
		}
		overlay(all, more)
	}
	if at := annotations["sidecar.istio.io/discoveryAddress"]; at != "" {
		all["discoveryAddress"] = at
	}
	s.concurrency(all)
	var err error
	if s.node.ProxyConfig, err = json.Marshal(all); err != nil {
		return err
	}
	if err := json.Unmarshal(s.node.ProxyConfig, &s.proxy); err != nil {
		return fmt.Errorf("the proxy's configuration (ProxyConfig): %w", err)
	}
	return nil
}

// concurrency is by the CPU limit unless it is set: with a thread for each of
// a large machine's cores Envoy would be throttled.
func (s *settings) concurrency(p map[string]any) {
	limit, err := strconv.ParseUint(s.env["ISTIO_CPU_LIMIT"], 10, 16)
	if err == nil && limit > 0 && p["concurrency"] == nil {
		p["concurrency"] = limit
	}
	if s.Concurrency > 0 {
		p["concurrency"] = s.Concurrency
	}
}

// decodeYAML reads an object of YAML or JSON whose keys may be in either of
// protobuf's forms, camelCase or snake_case.
func decodeYAML(text []byte) (map[string]any, error) {
	out := map[string]any{}
	if err := yaml.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	for k, v := range out {
		if strings.Contains(k, "_") {
			delete(out, k)
			out[camelCase(k)] = v
		}
	}
	return out, nil
}

func camelCase(s string) string {
	parts := strings.Split(s, "_")
	for i, p := range parts[1:] {
		if p != "" {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

func overlay(to, from map[string]any) {
	for k, v := range from {
		old, isMap := to[k].(map[string]any)
		more, both := v.(map[string]any)
		if k == "proxyMetadata" && isMap && both {
			for key, v := range more {
				old[key] = v
			}
			continue
		}
		to[k] = v
	}
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
	if err == nil && (len(js) == 0 || js[0] != '{') {
		err = errors.New("want an object")
	}
	if err != nil {
		return "", fmt.Errorf("bootstrap override %s: %w", file, err)
	}
	return string(js), nil
}
