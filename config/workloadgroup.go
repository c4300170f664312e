package config

import (
	"maps"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	networking "istio.io/api/networking/v1alpha3"
)

// HealthChecked is the annotation of WorkloadEntries whose proxy reports their
// health.
const HealthChecked = "proxy.istio.io/health-checks-enabled"

// HealthyCondition is the condition in a WorkloadEntry's status that says so.
const HealthyCondition = "Healthy"

// maxEntryName is the longest name of a WorkloadEntry.
const maxEntryName = 253

// EntryName is the name of the WorkloadEntry of a proxy that registers itself
// with WorkloadGroup p.Group, as Istio names it: the group, the first address
// and the network. It is empty for a proxy without an address.
func EntryName(p *Proxy) string {
	if p.Group == "" || len(p.IPs) == 0 {
		return ""
	}
	name := p.Group + "-" + strings.ReplaceAll(p.IPs[0], ":", "-")
	if p.Network != "" {
		name += "-" + p.Network
	}
	return name[max(0, len(name)-maxEntryName):]
}

// EntryOf is the WorkloadEntry that a WorkloadGroup's template makes for a
// proxy: labels are the template's, then those of the group's metadata, then
// the proxy's own.
func EntryOf(p *Proxy, g *WorkloadGroup) *WorkloadEntry {
	spec := proto.Clone(g.Spec.GetTemplate()).(*networking.WorkloadEntry)
	if spec == nil {
		spec = &networking.WorkloadEntry{}
	}
	spec.Address = p.IPs[0]
	if p.Network != "" {
		spec.Network = p.Network
	}
	if p.Locality != (Locality{}) {
		spec.Locality = p.Locality.String()
	}
	spec.Labels = groupLabels(p, g)
	e := &WorkloadEntry{Spec: spec}
	e.Key = Key{Group: g.Key.Group, Kind: "WorkloadEntry", Namespace: g.Namespace, Name: EntryName(p)}
	e.Labels = spec.GetLabels()
	e.Annotations = map[string]string{annotation.IoIstioAutoRegistrationGroup.Name: g.Name}
	maps.Copy(e.Annotations, g.Spec.GetMetadata().GetAnnotations())
	if p.HealthChecks {
		e.Annotations[HealthChecked] = "true"
	}
	return e
}

// groupLabels are the labels of a proxy that registers itself with a group.
func groupLabels(p *Proxy, g *WorkloadGroup) map[string]string {
	out := map[string]string{}
	maps.Copy(out, g.Spec.GetTemplate().GetLabels())
	maps.Copy(out, g.Spec.GetMetadata().GetLabels())
	maps.Copy(out, p.Labels)
	delete(out, "istio-locality") // a label's value has no slashes; the entry has a field for it
	return out
}

// Registered completes a proxy that is no pod with what the mesh knows of its
// WorkloadEntry: labels and locality that it does not state itself. The proxy
// itself stays as it is.
func (m *Mesh) Registered(p *Proxy) *Proxy {
	q := *p
	switch {
	case p.Group != "":
		g, ok := m.WorkloadGroups.Get(p.Namespace, p.Group)
		if !ok {
			return p
		}
		q.Labels = groupLabels(p, g)
		if l := g.Spec.GetTemplate().GetLocality(); l != "" && q.Locality == (Locality{}) {
			q.Locality = ParseLocality(l)
		}
		if q.Network == "" {
			q.Network = g.Spec.GetTemplate().GetNetwork()
		}
	case p.Entry != "":
		w, ok := m.WorkloadEntries.Get(p.Namespace, p.Entry)
		if !ok {
			return p
		}
		q.Labels = map[string]string{}
		maps.Copy(q.Labels, w.Spec.GetLabels())
		maps.Copy(q.Labels, w.Labels)
		maps.Copy(q.Labels, p.Labels)
		if l := w.Spec.GetLocality(); l != "" && q.Locality == (Locality{}) {
			q.Locality = ParseLocality(l)
		}
		if q.Network == "" {
			q.Network = w.Spec.GetNetwork()
		}
	default:
		return p
	}
	return &q
}

// EntryPorts are the ports by which the WorkloadEntry of a proxy says where it
// serves a service's port of that name; nil for a proxy that has none.
func (m *Mesh) EntryPorts(p *Proxy) map[string]uint32 {
	if p.Group != "" {
		if g, ok := m.WorkloadGroups.Get(p.Namespace, p.Group); ok {
			return g.Spec.GetTemplate().GetPorts()
		}
		return nil
	}
	name := p.Entry
	if name == "" {
		name = p.Name
	}
	if w, ok := m.Workloads.Get(p.Namespace, name); ok && w.Kind == "WorkloadEntry" {
		return w.Ports
	}
	return nil
}

// HealthCounts reports whether annotations say that a WorkloadEntry serves only
// while its condition Healthy is true.
func HealthCounts(annotations map[string]string) bool {
	on, err := strconv.ParseBool(annotations[HealthChecked])
	return err == nil && on
}
