package config

import (
	"maps"

	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// EffectiveProxyConfig is what holds for a pod's proxy, from the mildest to the
// strongest: base, which is the mesh's defaultConfig, the root namespace's
// ProxyConfig, the namespace's own, the annotation proxy.istio.io/config, the
// ProxyConfig whose selector matches the pod (the API's documentation of
// ProxyConfig). Of several ProxyConfigs of one rank the oldest counts. An error
// says why the annotation cannot be read; what holds without it is returned.
func EffectiveProxyConfig(base *meshconfig.ProxyConfig, all Index[*ProxyConfig], root, namespace string, labels, annotations map[string]string) (*meshconfig.ProxyConfig, error) {
	pc := proto.Clone(base).(*meshconfig.ProxyConfig)
	whole := func(c *ProxyConfig) bool { return len(c.Spec.GetSelector().GetMatchLabels()) == 0 }
	applyProxyConfig(pc, oldestProxyConfig(all, root, whole))
	if namespace != root {
		applyProxyConfig(pc, oldestProxyConfig(all, namespace, whole))
	}
	var failed error
	if written, ok := annotations[annotation.ProxyConfig.Name]; ok {
		if over, _, err := OverlayProxyConfig(pc, written); err != nil {
			failed = err
		} else {
			pc = over
		}
	}
	applyProxyConfig(pc, oldestProxyConfig(all, namespace, func(c *ProxyConfig) bool {
		match := c.Spec.GetSelector().GetMatchLabels()
		return len(match) > 0 && Selects(match, labels)
	}))
	return pc, failed
}

// oldestProxyConfig is the oldest one of a namespace that is wanted, or nil.
func oldestProxyConfig(all Index[*ProxyConfig], namespace string, wanted func(*ProxyConfig) bool) *ProxyConfig {
	var found *ProxyConfig
	for _, c := range all.In(namespace) {
		if wanted(c) && (found == nil || c.Before(&found.Meta)) {
			found = c
		}
	}
	return found
}

func applyProxyConfig(pc *meshconfig.ProxyConfig, over *ProxyConfig) {
	if over == nil {
		return
	}
	if c := over.Spec.GetConcurrency(); c != nil {
		pc.Concurrency = c
	}
	if i := over.Spec.GetImage(); i != nil {
		pc.Image = i
	}
	if vars := over.Spec.GetEnvironmentVariables(); len(vars) > 0 {
		all := maps.Clone(pc.GetProxyMetadata())
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, vars)
		pc.ProxyMetadata = all
	}
}
