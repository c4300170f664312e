package discovery

import (
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// visibility reads the exportTo of a service of namespace ns.
func (d *derivation) visibility(exportTo []string, ns string) config.Visibility {
	def := config.ParseVisibility(d.settings.Mesh.GetDefaultServiceExportTo(), ns, config.Visibility{Public: true})
	return config.ParseVisibility(exportTo, ns, def)
}

// entryVisibility is who sees a ServiceEntry: those that its exportTo names, as
// far as MeshConfig.serviceEntryVisibility allows. That only ever takes away,
// and holds for sidecars if applyToSidecars is set.
func (d *derivation) entryVisibility(e entry) (config.Visibility, []config.Problem) {
	ns := e.Meta.Namespace
	v := d.visibility(e.spec.GetExportTo(), ns)
	rules := d.settings.Mesh.GetServiceEntryVisibility()
	if !rules.GetApplyToSidecars() {
		return v, nil
	}
	switch d.allowed(rules, ns) {
	case meshconfig.ServiceEntryVisibility_NONE:
		return config.Visibility{None: true}, []config.Problem{config.At(&e.Meta, "", config.Warning, "NotVisible",
			"nobody sees it: serviceEntryVisibility of MeshConfig says NONE for namespace %s", ns)}
	case meshconfig.ServiceEntryVisibility_NAMESPACE:
		if v.To(ns) {
			return config.Visibility{Namespaces: []string{ns}}, nil
		}
		return config.Visibility{None: true}, nil
	}
	return v, nil
}

// allowed is what the first policy says whose rules all match a namespace.
func (d *derivation) allowed(rules *meshconfig.ServiceEntryVisibility, ns string) meshconfig.ServiceEntryVisibility_Visibility {
	var labels map[string]string
	if o := d.namespaces.raw[ns]; o != nil {
		labels = o.Meta.Labels
	}
	for _, p := range rules.GetPolicies() {
		matches := true
		for _, r := range p.GetMatchingRules() {
			matches = matches && newLabelSelector(r.GetNamespaceSelector()).matches(labels)
		}
		if matches {
			return p.GetVisibility()
		}
	}
	return rules.GetDefaultVisibility()
}
