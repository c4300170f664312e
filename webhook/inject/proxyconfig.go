package inject

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// proxyConfigFor is what holds for a pod's proxy.
func (in *Injector) proxyConfigFor(ns string, set map[string]string, notes map[string]string) (*meshconfig.ProxyConfig, error) {
	base, root := in.mesh.GetDefaultConfig(), in.mesh.GetRootNamespace()
	if standard := config.DefaultMeshConfig().GetDefaultConfig().GetDiscoveryAddress(); in.revision != "" && base.GetDiscoveryAddress() == standard {
		base = proto.Clone(base).(*meshconfig.ProxyConfig)
		base.DiscoveryAddress = "istiod-" + in.revision + "." + root + ".svc:15012" // the revision's own Service
	}
	pc, err := config.EffectiveProxyConfig(base, in.proxyConfigs, root, ns, set, notes)
	if err != nil {
		return nil, err
	}
	if v := notes[annotation.SidecarDiscoveryAddress.Name]; v != "" {
		pc.DiscoveryAddress = v
	}
	if port, err := strconv.ParseInt(notes[annotation.SidecarStatusPort.Name], 10, 32); err == nil && port > 0 {
		pc.StatusPort = int32(port)
	}
	return pc, nil
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
