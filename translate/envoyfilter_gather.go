package translate

import (
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// patch is one entry of an EnvoyFilter's configPatches that is for the scope's
// proxies. Immutable.
type patch struct {
	filter *config.EnvoyFilter
	index  int
	spec   *networking.EnvoyFilter_EnvoyConfigObjectPatch
	// value is the patch's value as the message that it is applied to; nil
	// where there is none.
	value proto.Message
	// ports are those of the scope's listeners that match.listener.portName
	// names; nil without a name.
	ports map[uint32]bool
}

func (p *patch) field() string { return "spec.configPatches[" + strconv.Itoa(p.index) + "]" }

func (p *patch) operation() networking.EnvoyFilter_Patch_Operation {
	return p.spec.GetPatch().GetOperation()
}

// merges reports one of the two operations that merge.
func (p *patch) merges() bool {
	o := p.operation()
	return o == networking.EnvoyFilter_Patch_MERGE || o == networking.EnvoyFilter_Patch_MERGE_AND_REPLACE_LIST
}

// adds reports an operation that adds to a list whose order means nothing: an
// insertion is one as well.
func (p *patch) adds() bool {
	switch p.operation() {
	case networking.EnvoyFilter_Patch_ADD, networking.EnvoyFilter_Patch_INSERT_FIRST,
		networking.EnvoyFilter_Patch_INSERT_BEFORE, networking.EnvoyFilter_Patch_INSERT_AFTER:
		return true
	}
	return false
}

// envoyFilterIndex is what of a Mesh's EnvoyFilters classes depend on.
type envoyFilterIndex struct {
	version bool     // some patch tests the proxy's version
	keys    []string // metadata that some patch tests, sorted
}

func newEnvoyFilterIndex(m *config.Mesh) envoyFilterIndex {
	var out envoyFilterIndex
	keys := labelKeys{}
	for f := range m.EnvoyFilters.All() {
		for _, p := range f.Spec.GetConfigPatches() {
			out.version = out.version || p.GetMatch().GetProxy().GetProxyVersion() != ""
			keys.add(p.GetMatch().GetProxy().GetMetadata())
		}
	}
	out.keys = keys.sorted()
	return out
}

// addTo adds to a proxy's traits what patches test of it.
func (x *envoyFilterIndex) addTo(t *Traits, p *config.Proxy) {
	if x.version {
		t.Version = p.Raw["ISTIO_VERSION"]
	}
	var b strings.Builder
	for _, k := range x.keys {
		if v := proxyMetadata(p, k); v != "" {
			b.WriteString(strconv.Quote(k) + "=" + strconv.Quote(v) + "\n")
		}
	}
	t.Metadata = b.String()
}

// proxyMetadata is one entry of a proxy's node metadata.
func proxyMetadata(p *config.Proxy, key string) string {
	switch key {
	case "NAME":
		return p.Name
	case "NAMESPACE":
		return p.Namespace
	case "SERVICE_ACCOUNT":
		return p.ServiceAccount
	case "CLUSTER_ID":
		return p.Cluster
	case "NODE_NAME":
		return p.NodeName
	case "NETWORK":
		return p.Network
	case "WORKLOAD_NAME":
		return p.Workload
	case "INTERCEPTION_MODE":
		return string(p.Interception)
	}
	return p.Raw[key]
}

// addEnvoyFilterLabels adds the labels by which EnvoyFilters find workloads.
func addEnvoyFilterLabels(keys labelKeys, f *networking.EnvoyFilter) {
	keys.add(f.GetWorkloadSelector().GetLabels())
	if len(f.GetTargetRefs()) > 0 {
		keys[gatewayNameLabel] = true
	}
}

// filtersFor are the EnvoyFilters for workloads of a namespace with some labels,
// in the order that they are applied in: by priority, the root namespace's
// first, older first (networking/v1alpha3 EnvoyFilter.priority).
func (ix *Index) filtersFor(namespace string, labels map[string]string) []*config.EnvoyFilter {
	var filters []*config.EnvoyFilter
	root := ix.mesh.RootNamespace()
	namespaces := []string{root}
	if namespace != root {
		namespaces = append(namespaces, namespace)
	}
	for _, ns := range namespaces {
		for _, f := range ix.mesh.EnvoyFilters.In(ns) {
			if filterAttaches(f, namespace, labels) {
				filters = append(filters, f)
			}
		}
	}
	sort.SliceStable(filters, func(i, j int) bool {
		a, b := filters[i], filters[j]
		switch {
		case a.Spec.GetPriority() != b.Spec.GetPriority():
			return a.Spec.GetPriority() < b.Spec.GetPriority()
		case (a.Namespace == root) != (b.Namespace == root):
			return a.Namespace == root
		}
		return a.Before(&b.Meta)
	})
	return filters
}

// gatherPatches finds the patches of the scope's resources, in order.
func (ix *Index) gatherPatches(s *Scope) {
	for _, f := range ix.filtersFor(s.Class.Namespace, s.Labels) {
		for i, p := range f.Spec.GetConfigPatches() {
			if p.GetApplyTo() == networking.EnvoyFilter_BOOTSTRAP || !s.inContext(p.GetMatch().GetContext()) || !s.Class.Traits.match(p.GetMatch().GetProxy()) {
				continue
			}
			value, err := patchValue(p)
			if err != nil {
				continue // Check keeps it out of effect, and says so
			}
			found := &patch{filter: f, index: i, spec: p, value: value}
			if name := p.GetMatch().GetListener().GetPortName(); name != "" {
				found.ports = s.portsNamed(name)
			}
			s.patches = append(s.patches, found)
		}
	}
}

// filterAttaches is attaches, for the one policy whose selector is older.
func filterAttaches(f *config.EnvoyFilter, namespace string, labels map[string]string) bool {
	refs := f.Spec.GetTargetRefs()
	if len(refs) == 0 {
		return config.Selects(f.Spec.GetWorkloadSelector().GetLabels(), labels)
	}
	gateway := labels[gatewayNameLabel]
	return gateway != "" && f.Namespace == namespace && slices.ContainsFunc(refs, func(r *typev1beta1.PolicyTargetReference) bool {
		return r.GetKind() == "Gateway" && r.GetGroup() == "gateway.networking.k8s.io" && r.GetName() == gateway
	})
}

func (s *Scope) inContext(c networking.EnvoyFilter_PatchContext) bool {
	switch c {
	case networking.EnvoyFilter_ANY:
		return true
	case networking.EnvoyFilter_SIDECAR_INBOUND:
		return s.Class.Side == Inbound
	case networking.EnvoyFilter_SIDECAR_OUTBOUND:
		return s.Class.Side == Outbound
	case networking.EnvoyFilter_GATEWAY:
		return s.Class.Side == GatewaySide
	}
	return false
}

// match tests a proxy by what it says of itself.
func (t *Traits) match(m *networking.EnvoyFilter_ProxyMatch) bool {
	if v := m.GetProxyVersion(); v != "" {
		re, err := versionPattern(v)
		if err != nil || t.Version == "" || !re.MatchString(t.Version) {
			return false
		}
	}
	for k, v := range m.GetMetadata() {
		if !strings.Contains(t.Metadata, strconv.Quote(k)+"="+strconv.Quote(v)+"\n") {
			return false
		}
	}
	return true
}

// longestPattern bounds proxyVersion. Go's expressions need time in proportion
// to their own length and that of the version, which is bounded too.
const longestPattern = 256

func versionPattern(text string) (*regexp.Regexp, error) {
	if len(text) > longestPattern {
		return nil, errPatternLong
	}
	return regexp.Compile(text)
}

func addPatches(h config.Hasher, patches []*patch) {
	h.Uint(uint64(len(patches)))
	for _, p := range patches {
		h.Hash(p.filter.Hash).Uint(uint64(p.index)).Uint(uint64(len(p.ports)))
		for _, port := range slices.Sorted(maps.Keys(p.ports)) {
			h.Uint(uint64(port))
		}
	}
}
