package discovery

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// meshConfigMap is the ConfigMap that holds the MeshConfig, in key "mesh".
const (
	meshConfigMap = "istio"
	meshConfigKey = "mesh"
)

// systemNamespace is where the control plane's own configuration lives: the
// ConfigMap istio cannot name its own namespace.
const systemNamespace = "istio-system"

// isSettings reports whether an object is a ConfigMap with the settings of this
// control plane: that of its revision, or the one that all may share.
func (d *derivation) isSettings(key config.Key) bool {
	return key.Kind == "ConfigMap" && key.Group == "" && key.Namespace == systemNamespace && slices.Contains(d.revision.settings(), key.Name)
}

// settingsChange takes a step of a ConfigMap with settings; false for any other
// object.
func (d *derivation) settingsChange(key config.Key, after *Object) bool {
	if !d.isSettings(key) {
		return false
	}
	d.plain = append(d.plain, plainChange{key, after})
	chosen, found := key, false
	for _, name := range d.revision.settings() {
		k := config.Key{Kind: "ConfigMap", Namespace: systemNamespace, Name: name}
		if o := d.objects[systemNamespace][k]; o != nil && !found {
			chosen, after, found = k, o, true
		} else {
			d.setProblems(k, nil)
		}
	}
	d.readSettings(chosen, after)
	return true
}

// readSettings puts the settings of a ConfigMap into effect; after is nil for
// the defaults. A MeshConfig that does not parse leaves the last good one in
// effect.
func (d *derivation) readSettings(key config.Key, after *Object) {
	var problems []config.Problem
	defer func() { d.setProblems(key, problems) }()
	next := config.DefaultSettings()
	if after != nil {
		cm, ok := after.Body.(*corev1.ConfigMap)
		if !ok {
			return
		}
		if text, ok := cm.Data[meshConfigKey]; ok {
			mc, unknown, err := config.ParseMeshConfig(text)
			if after.Meta.File != "" {
				unknown = nil // package file has said so, with the line
			}
			for _, field := range unknown {
				problems = append(problems, config.At(&after.Meta, "data."+meshConfigKey+"."+field, config.Warning, "UnknownField",
					"MeshConfig has no field %q: it has no effect", field))
			}
			if err != nil {
				problems = []config.Problem{config.At(&after.Meta, "data."+meshConfigKey, config.Error, "InvalidMeshConfig",
					"%v: the settings stay as they were", err)}
				return
			}
			next = config.NewSettings(after.Meta, mc, d.settings.DomainSuffix).WithEnvironment(d.lookup)
			problems = append(problems, next.EnvironmentProblems("data."+meshConfigKey+".")...)
		}
	}
	if next.Hash == d.settings.Hash {
		if next.Key != d.settings.Key || !samePlace(&next.Meta, &d.settings.Meta) {
			d.settings = next
		}
		return
	}
	d.settings = next
	d.stale.everything = true
	d.reselect()
}

// namespaces says which namespaces are discovered (MeshConfig
// discoverySelectors) and what they say for the objects inside.
type namespaces struct {
	raw       map[string]*Object
	selectors []labelSelector // none: every namespace
}

func newNamespaces() namespaces { return namespaces{raw: map[string]*Object{}} }

// discovered reports whether objects of namespace ns are looked at. A
// namespace that does not exist matches no selector.
func (n *namespaces) discovered(ns string) bool {
	if len(n.selectors) == 0 || ns == "" {
		return true
	}
	o := n.raw[ns]
	return o != nil && slices.ContainsFunc(n.selectors, func(s labelSelector) bool { return s.matches(o.Meta.Labels) })
}

func (n *namespaces) annotation(ns, key string) string {
	if o := n.raw[ns]; o != nil {
		return o.Meta.Annotations[key]
	}
	return ""
}

func (d *derivation) namespaceChange(ns string, after *Object) {
	was := d.namespaces.discovered(ns)
	if after == nil {
		delete(d.namespaces.raw, ns)
	} else {
		d.namespaces.raw[ns] = after
	}
	d.plain = append(d.plain, plainChange{config.Key{Kind: "Namespace", Name: ns}, after})
	d.rediscover(ns, was)
	if ns == systemNamespace {
		d.stale.everything = true // its network is everyone's
	}
	for id := range d.claims {
		if id.Namespace == ns {
			d.stale.services.add(id)
		}
	}
}

// reselect applies the settings' discoverySelectors to all namespaces.
func (d *derivation) reselect() {
	was := map[string]bool{}
	for ns := range d.objects {
		was[ns] = d.namespaces.discovered(ns)
	}
	d.namespaces.selectors = nil
	for _, s := range d.settings.Mesh.GetDiscoverySelectors() {
		d.namespaces.selectors = append(d.namespaces.selectors, newLabelSelector(s))
	}
	for ns := range was {
		d.rediscover(ns, was[ns])
	}
}

// rediscover lets the objects of a namespace appear or vanish if it became
// discovered or ceased to be.
func (d *derivation) rediscover(ns string, was bool) {
	now := d.namespaces.discovered(ns)
	if was == now {
		return
	}
	for key, o := range d.objects[ns] {
		switch {
		case d.isSettings(key), !d.revision.takes(o):
		case now:
			d.visibleChange(key, nil, o)
		default:
			d.visibleChange(key, o, nil)
		}
	}
}
