package discovery

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"istio.io/api/label"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Labels that say where a workload is.
var (
	subzoneLabel  = label.TopologySubzone.Name
	networkLabel  = label.TopologyNetwork.Name
	clusterLabel  = label.TopologyCluster.Name
	tlsModeLabel  = label.SecurityTlsMode.Name
	localityLabel = "istio-locality"
)

// localCluster is the name of the only cluster, as Istio's proxies call it
// when nothing else is said (CLUSTER_ID).
const localCluster = "Kubernetes"

// instance is a workload with what endpoints of it say.
type instance struct {
	*config.Workload
	// endpoint is what every endpoint of the workload has in common.
	endpoint config.Endpoint
	// entry is set for WorkloadEntries.
	entry *networking.WorkloadEntry
}

// podsIndex holds pods and WorkloadEntries and what was made of them.
type podsIndex struct {
	raw       map[name]*Object
	made      map[name]*instance
	entries   map[name]*instance     // of WorkloadEntries
	inNS      multimap[string, name] // pods
	entriesIn multimap[string, name] // WorkloadEntries
	byNode    multimap[string, name]
	byAddress multimap[string, name]
}

func newPodsIndex() podsIndex {
	return podsIndex{
		raw: map[name]*Object{}, made: map[name]*instance{}, entries: map[name]*instance{},
		inNS: multimap[string, name]{}, entriesIn: multimap[string, name]{}, byNode: multimap[string, name]{}, byAddress: multimap[string, name]{},
	}
}

func (d *derivation) podChange(n name, before, after *Object) {
	if p, ok := bodyOf[*corev1.Pod](before); ok {
		delete(d.pods.raw, n)
		d.pods.inNS.remove(n.ns, n)
		d.pods.byNode.remove(p.Spec.NodeName, n)
	}
	if p, ok := bodyOf[*corev1.Pod](after); ok {
		d.pods.raw[n] = after
		d.pods.inNS.add(n.ns, n)
		d.pods.byNode.add(p.Spec.NodeName, n)
	}
	d.stale.pods.add(n)
}

func bodyOf[T any](o *Object) (body T, ok bool) {
	if o == nil {
		return body, false
	}
	body, ok = o.Body.(T)
	return body, ok
}

func (d *derivation) workloadEntryChange(n name, _, after *Object) {
	if after == nil {
		delete(d.workload, n)
		d.pods.entriesIn.remove(n.ns, n)
	} else {
		d.workload[n] = after
		d.pods.entriesIn.add(n.ns, n)
	}
	d.stale.workloadEntries.add(n)
}

func (d *derivation) derivePods(b *config.Builder) {
	for n := range d.stale.pods {
		before := d.pods.made[n]
		after := d.instanceOfPod(d.pods.raw[n])
		if sameInstance(before, after) {
			continue
		}
		if before != nil {
			for _, ip := range before.IPs {
				d.pods.byAddress.remove(ip, n)
			}
		}
		delete(d.pods.made, n)
		if after != nil {
			d.pods.made[n] = after
			for _, ip := range after.IPs {
				if !after.HostNetwork {
					d.pods.byAddress.add(ip, n)
				}
			}
		}
		d.instanceChange(b, n, before, after)
	}
}

func (d *derivation) deriveWorkloadEntries(b *config.Builder) {
	for n := range d.stale.workloadEntries {
		before := d.pods.entries[n]
		after := d.instanceOfEntry(d.workload[n])
		if sameInstance(before, after) {
			continue
		}
		if after == nil {
			delete(d.pods.entries, n)
		} else {
			d.pods.entries[n] = after
		}
		d.instanceChange(b, n, before, after)
		for _, i := range []*instance{before, after} {
			d.staleSelectors(n.ns, i)
		}
	}
}

func sameInstance(a, b *instance) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Hash == b.Hash && samePlace(&a.Meta, &b.Meta)
}

// instanceChange puts a workload into the Mesh and marks the endpoints that
// speak of it. Of a Pod and a WorkloadEntry of one name, the Mesh has the Pod.
func (d *derivation) instanceChange(b *config.Builder, n name, before, after *instance) {
	field := func(m *config.Mesh) *config.Index[*config.Workload] { return &m.Workloads }
	switch pod, entry := d.pods.made[n], d.pods.entries[n]; {
	case pod != nil:
		config.Put(b, field, pod.Workload)
	case entry != nil:
		config.Put(b, field, entry.Workload)
	default:
		config.Remove(b, field, n.ns, n.name)
	}
	for s := range d.slices.byPod[n] {
		d.staleEndpointsOf(d.slices.serviceOf[s])
	}
	for _, i := range []*instance{before, after} {
		if i == nil {
			continue
		}
		for _, ip := range i.IPs {
			for s := range d.slices.byAddress[ip] {
				d.staleEndpointsOf(d.slices.serviceOf[s])
			}
		}
		d.staleSelecting(n.ns, i)
	}
}

// staleSelecting marks the ServiceEntries that select an instance.
func (d *derivation) staleSelecting(ns string, i *instance) {
	for n := range d.entries.selecting[ns] {
		e, ok := d.entries.get(n)
		if ok && config.Selects(e.spec.GetWorkloadSelector().GetLabels(), i.Labels) {
			for _, id := range hostsOf(e) {
				d.stale.endpoints.add(id)
			}
		}
	}
}

// staleSelectors marks the Kubernetes Services that select a WorkloadEntry.
func (d *derivation) staleSelectors(ns string, i *instance) {
	if i == nil {
		return
	}
	for n := range d.selectors[ns] {
		if svc, ok := bodyOf[*corev1.Service](d.services[n]); ok && config.Selects(svc.Spec.Selector, i.Labels) {
			d.stale.endpoints.add(d.hostnameOf(n))
		}
	}
}

// instanceOfPod is a pod's workload; nil for one that has ended.
func (d *derivation) instanceOfPod(o *Object) *instance {
	p, ok := bodyOf[*corev1.Pod](o)
	if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	w := &config.Workload{
		Meta: o.Meta, IPs: podIPs(p), ServiceAccount: cmp.Or(p.Spec.ServiceAccountName, "default"),
		Node: p.Spec.NodeName, Locality: d.nodes[p.Spec.NodeName], Network: d.network(o.Meta.Labels),
		Ready: podReady(p), HostNetwork: p.Spec.HostNetwork, Ports: podPorts(p), Owner: OwnerOf(p),
	}
	if l := o.Meta.Labels[localityLabel]; l != "" {
		w.Locality = config.ParseLocality(l)
	}
	i := &instance{Workload: w}
	i.endpoint = commonEndpoint(w, w.Labels)
	if p.Spec.Subdomain != "" {
		i.endpoint.Hostname = cmp.Or(p.Spec.Hostname, p.Name)
	}
	if !w.Ready {
		i.endpoint.Health = config.Unhealthy
	}
	if p.DeletionTimestamp != nil {
		i.endpoint.Health = config.Draining
	}
	w.Hash = hashInstance(i)
	return i
}

// instanceOfEntry is a WorkloadEntry's workload.
func (d *derivation) instanceOfEntry(o *Object) *instance {
	spec, ok := bodyOf[*networking.WorkloadEntry](o)
	if !ok {
		return nil
	}
	w := &config.Workload{
		Meta: o.Meta, ServiceAccount: spec.GetServiceAccount(), Network: cmp.Or(spec.GetNetwork(), d.network(spec.GetLabels())),
		Ready: !o.Unhealthy, Ports: spec.GetPorts(),
	}
	w.Labels = mergedLabels(spec.GetLabels(), o.Meta.Labels)
	if a := spec.GetAddress(); a != "" {
		w.IPs = []string{a}
	}
	w.Locality = entryLocality(spec, w.Labels)
	i := &instance{Workload: w, entry: spec}
	i.endpoint = commonEndpoint(w, w.Labels)
	i.endpoint.Weight = spec.GetWeight()
	if _, said := w.Labels[tlsModeLabel]; !said {
		i.endpoint.MTLS = spec.GetServiceAccount() != ""
	}
	w.Hash = hashInstance(i)
	return i
}

// mergedLabels are those of a WorkloadEntry: what its meta data says goes
// before its spec.
func mergedLabels(spec, meta map[string]string) map[string]string {
	if len(spec) == 0 {
		return meta
	}
	out := maps.Clone(spec)
	maps.Copy(out, meta)
	return out
}

func entryLocality(spec *networking.WorkloadEntry, labels map[string]string) config.Locality {
	if l := spec.GetLocality(); l != "" {
		return config.ParseLocality(l)
	}
	if l := labels[localityLabel]; l != "" {
		return config.ParseLocality(l)
	}
	return config.Locality{}
}

// network is the label of the workload, or that of the system namespace.
func (d *derivation) network(labels map[string]string) string {
	if n := labels[networkLabel]; n != "" {
		return n
	}
	if ns := d.namespaces.raw[systemNamespace]; ns != nil {
		return ns.Meta.Labels[networkLabel]
	}
	return ""
}

// commonEndpoint is an endpoint without address and port. Its labels carry
// the topology too, because failoverPriority and subsets may test it.
func commonEndpoint(w *config.Workload, labels map[string]string) config.Endpoint {
	with := make(map[string]string, len(labels)+6)
	maps.Copy(with, labels)
	for k, v := range map[string]string{
		corev1.LabelTopologyRegion: w.Locality.Region, corev1.LabelTopologyZone: w.Locality.Zone,
		subzoneLabel: w.Locality.Subzone, clusterLabel: localCluster, corev1.LabelHostname: w.Node,
	} {
		if v != "" {
			with[k] = v
		}
	}
	if with[networkLabel] == "" && w.Network != "" {
		with[networkLabel] = w.Network
	}
	return config.Endpoint{
		Labels: with, Locality: w.Locality, Network: w.Network, Cluster: localCluster, Node: w.Node,
		Workload: w.Name, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount,
		MTLS: labels[tlsModeLabel] == "istio",
	}
}

func hashInstance(i *instance) config.Hash {
	w := i.Workload
	h := config.NewHasher().Hash(w.Meta.Hash).Map(w.Labels)
	hashEndpoint(h, &i.endpoint)
	return h.Sum()
}

func podIPs(p *corev1.Pod) []string {
	var out []string
	for _, ip := range p.Status.PodIPs {
		if ip.IP != "" {
			out = append(out, ip.IP)
		}
	}
	if len(out) == 0 && p.Status.PodIP != "" {
		out = []string{p.Status.PodIP}
	}
	return out
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func podPorts(p *corev1.Pod) map[string]uint32 {
	out := map[string]uint32{}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if _, ok := out[port.Name]; port.Name != "" && !ok {
					out[port.Name] = uint32(port.ContainerPort)
				}
			}
		}
	}
	return out
}

// OwnerOf is a pod's controller; that of a ReplicaSet which a Deployment made
// is the Deployment, whose name the ReplicaSet's has before the template hash.
func OwnerOf(p *corev1.Pod) config.Key {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		group, _, grouped := strings.Cut(o.APIVersion, "/")
		if !grouped {
			group = ""
		}
		k := config.Key{Group: group, Kind: o.Kind, Namespace: p.Namespace, Name: o.Name}
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			if deployment, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
				k.Kind, k.Name = "Deployment", deployment
			}
		}
		return k
	}
	return config.Key{}
}
