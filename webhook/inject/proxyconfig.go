package inject

import (
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// proxyConfigFor is what holds for a pod's proxy, from the mildest to the
// strongest: the mesh's defaultConfig, the root namespace's ProxyConfig, the
// namespace's own, the annotation proxy.istio.io/config, the ProxyConfig whose
// selector matches the pod (the API's documentation of ProxyConfig). Of several
// ProxyConfigs of one rank the oldest counts.
func (in *Injector) proxyConfigFor(ns string, set map[string]string, notes map[string]string) (*meshconfig.ProxyConfig, error) {
	pc := proto.Clone(in.mesh.GetDefaultConfig()).(*meshconfig.ProxyConfig)
	root := in.mesh.GetRootNamespace()
	if standard := config.DefaultMeshConfig().GetDefaultConfig().GetDiscoveryAddress(); in.revision != "" && pc.GetDiscoveryAddress() == standard {
		pc.DiscoveryAddress = "istiod-" + in.revision + "." + root + ".svc:15012" // the revision's own Service
	}
	apply(pc, in.proxyConfig(root, func(c *config.ProxyConfig) bool { return len(c.Spec.GetSelector().GetMatchLabels()) == 0 }))
	if ns != root {
		apply(pc, in.proxyConfig(ns, func(c *config.ProxyConfig) bool { return len(c.Spec.GetSelector().GetMatchLabels()) == 0 }))
	}
	if written, ok := notes[annotation.ProxyConfig.Name]; ok {
		var err error
		if pc, _, err = config.OverlayProxyConfig(pc, written); err != nil {
			return nil, err
		}
	}
	apply(pc, in.proxyConfig(ns, func(c *config.ProxyConfig) bool {
		match := c.Spec.GetSelector().GetMatchLabels()
		return len(match) > 0 && labels.SelectorFromSet(match).Matches(labels.Set(set))
	}))
	if v := notes[annotation.SidecarDiscoveryAddress.Name]; v != "" {
		pc.DiscoveryAddress = v
	}
	if port, err := strconv.ParseInt(notes[annotation.SidecarStatusPort.Name], 10, 32); err == nil && port > 0 {
		pc.StatusPort = int32(port)
	}
	return pc, nil
}

// proxyConfig is the oldest ProxyConfig of a namespace that is wanted, or nil.
func (in *Injector) proxyConfig(ns string, wanted func(*config.ProxyConfig) bool) *config.ProxyConfig {
	var found *config.ProxyConfig
	for _, c := range in.proxyConfigs.In(ns) {
		if wanted(c) && (found == nil || c.Before(&found.Meta)) {
			found = c
		}
	}
	return found
}

func apply(pc *meshconfig.ProxyConfig, over *config.ProxyConfig) {
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

// imageType is the annotation's, or that of the ProxyConfig.
func imageType(pc *meshconfig.ProxyConfig, notes map[string]string) string {
	if t, ok := notes[annotation.SidecarProxyImageType.Name]; ok {
		return t
	}
	return pc.GetImage().GetImageType()
}

// holds reports that the application starts after the proxy.
func (in *Injector) holds(pc *meshconfig.ProxyConfig) bool {
	return pc.GetHoldApplicationUntilProxyStarts().GetValue() ||
		in.settings.truth("global", "proxy", "holdApplicationUntilProxyStarts")
}

// moved takes an element of a list to its beginning or end.
func moved(list []Object, name string, first bool) []Object {
	e := named(list, name)
	if e == nil {
		return list
	}
	rest := withoutNamed(list, name)
	if first {
		return slices.Insert(rest, 0, e)
	}
	return append(rest, e)
}

// order puts the containers into the order that they must start in. A native
// sidecar starts before the other init containers, after the redirection is
// set up; otherwise redirection comes last, since init containers would be
// redirected to a proxy that does not run yet. The application stays the first
// container unless it waits for the proxy: kubectl exec takes the first one.
func order(pod Object, proxyFirst bool) {
	s := spec(pod)
	setObjects(s, containersList, moved(objects(s, containersList), proxyContainer, proxyFirst))
	inits := objects(s, initList)
	if named(inits, proxyContainer) != nil {
		for _, name := range []string{coreDumpContainer, proxyContainer, validateContainer, initContainer} {
			inits = moved(inits, name, true)
		}
	} else {
		inits = moved(inits, validateContainer, true)
		inits = moved(inits, initContainer, false)
		inits = moved(inits, coreDumpContainer, false)
	}
	setObjects(s, initList, inits)
}
