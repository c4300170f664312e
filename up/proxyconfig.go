package up

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// proxySettings are what an Envoy is started with because of MeshConfig's
// defaultConfig, ProxyConfigs, annotation proxy.istio.io/config and the
// EnvoyFilters that patch its bootstrap. As in a cluster they hold from the start
// of a pod on, so that others make another pod.
type proxySettings struct {
	config *meshconfig.ProxyConfig // effective
	// own: it is not that of the whole mesh, which the control plane knows.
	own   bool
	wrong string // why the annotation has no effect
	hash  config.Hash
}

func proxySettingsOf(m *config.Mesh, w *config.Workload) proxySettings {
	base := m.Settings.Mesh.GetDefaultConfig()
	pc, err := config.EffectiveProxyConfig(base, m.ProxyConfigs, m.RootNamespace(), w.Namespace, w.Labels, w.Annotations)
	out := proxySettings{config: pc, own: !proto.Equal(pc, base)}
	if err != nil {
		out.wrong = "annotation proxy.istio.io/config has no effect: " + err.Error() + " (in a cluster the pod would be refused)"
	}
	h := config.NewHasher()
	if out.own {
		h.Proto(pc)
	} else {
		h.Proto(&meshconfig.ProxyConfig{Concurrency: pc.GetConcurrency(), ProxyMetadata: pc.GetProxyMetadata(), RuntimeValues: pc.GetRuntimeValues(), DrainDuration: pc.GetDrainDuration()})
	}
	for _, ns := range []string{m.RootNamespace(), w.Namespace} {
		for _, f := range m.EnvoyFilters.In(ns) {
			if patchesBootstrap(f) && config.Selects(f.Spec.GetWorkloadSelector().GetLabels(), w.Labels) {
				h.Hash(f.Hash)
			}
		}
	}
	out.hash = h.Sum()
	return out
}

func patchesBootstrap(f *config.EnvoyFilter) bool {
	for _, p := range f.Spec.GetConfigPatches() {
		if p.GetApplyTo() == networking.EnvoyFilter_BOOTSTRAP {
			return true
		}
	}
	return false
}

// json is the ProxyConfig that the proxy tells the control plane; nil for the
// mesh's.
func (s *proxySettings) json() (json.RawMessage, error) {
	if !s.own {
		return nil, nil
	}
	js, err := protojson.Marshal(s.config)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, js)
	return out.Bytes(), err
}

// ownMetadata is what only the mesh on this machine itself knows.
var ownMetadata = []string{"CLUSTER_ID", "DNS_CAPTURE", "INSTANCE_IPS", "INTERCEPTION_MODE", "LABELS", "NAME", "NAMESPACE", "SERVICE_ACCOUNT"}

// metadata are the node's further keys: proxyMetadata ISTIO_META_….
func (s *proxySettings) metadata() map[string]any {
	out := map[string]any{}
	for k, v := range s.config.GetProxyMetadata() {
		if key, ok := strings.CutPrefix(k, "ISTIO_META_"); ok && !slices.Contains(ownMetadata, key) {
			out[key] = v
		}
	}
	return out
}

func (s *proxySettings) runtime() map[string]any {
	out := map[string]any{}
	for k, v := range s.config.GetRuntimeValues() {
		out[k] = v
	}
	return out
}

// environment is proxyMetadata's.
func (s *proxySettings) environment() []string {
	var out []string
	for k, v := range s.config.GetProxyMetadata() {
		out = append(out, k+"="+v)
	}
	return out
}

// concurrency is Envoy's number of threads: one, since all Envoys share a
// machine, unless more are asked for.
func (s *proxySettings) concurrency() string {
	return strconv.Itoa(max(1, int(s.config.GetConcurrency().GetValue())))
}

// drain is how long Envoy lets connections of a replaced listener live.
func (s *proxySettings) drain() string {
	d := 45 * time.Second
	if set := s.config.GetDrainDuration(); set != nil {
		d = set.AsDuration()
	}
	return strconv.Itoa(int(d.Seconds()))
}
