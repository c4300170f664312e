package file

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"istio.io/api/annotation"
	"istio.io/api/label"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// maxReplicas bounds the pods of one workload.
const maxReplicas = 1000

// scheduleOn collects the nodes that pods can run on.
func (c *cluster) scheduleOn() {
	for _, o := range c.given {
		if n, ok := o.Body.(*corev1.Node); ok {
			c.nodes = append(c.nodes, n)
		}
	}
	slices.SortFunc(c.nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
}

// workloads keeps everything but Services and Namespaces, gives the pods of
// the folder what they lack, and makes those of its templates.
func (c *cluster) workloads() {
	taken := map[config.Key]bool{}
	var templates []*discovery.Object
	for _, o := range c.given {
		switch body := o.Body.(type) {
		case *corev1.Service, *corev1.Namespace, *discoveryv1.EndpointSlice, *corev1.Endpoints: //nolint:staticcheck // deprecated
		case *corev1.Pod:
			taken[o.Meta.Key] = true
			c.checkPod(o, "", body)
			c.pod(o, body)
		case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet, *appsv1.ReplicaSet,
			*batchv1.Job, *batchv1.CronJob, *corev1.ReplicationController:
			templates = append(templates, o)
		default:
			c.keep(o)
		}
	}
	for _, o := range templates {
		for i, p := range c.podsOf(o) {
			if i == 0 {
				c.checkPod(o, templatePath(o), p)
				c.checkTemplate(o, p)
			}
			key := config.Key{Kind: "Pod", Namespace: o.Meta.Namespace, Name: p.Name}
			if taken[key] {
				c.warn(o, "metadata.name", "PodExists", "its pod %d would be called %q, which another pod is called: it is left out", i, p.Name)
				continue
			}
			taken[key] = true
			meta := o.Meta
			meta.Key, meta.Version, meta.Labels, meta.Annotations, meta.Lines = key, "v1", p.Labels, p.Annotations, templateLines(meta.Lines)
			c.pod(&discovery.Object{Meta: meta, Body: p}, p)
		}
	}
	c.slicesGiven(taken)
	for _, list := range c.pods {
		slices.SortFunc(list, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	}
}

func templatePath(o *discovery.Object) string {
	if o.Meta.Kind == "CronJob" {
		return "spec.jobTemplate.spec.template."
	}
	return "spec.template."
}

// proxyUID is the user whose connections the sidecar's redirection leaves
// alone, since it is the sidecar's own.
const proxyUID = 1337

// checkPod warns of pods whose traffic goes past their sidecar, and of
// containers that only injection can give an image.
func (c *cluster) checkPod(o *discovery.Object, template string, p *corev1.Pod) {
	if p.Annotations[label.SidecarInject.Name] == "false" || p.Labels[label.SidecarInject.Name] == "false" {
		for i := range p.Spec.Containers {
			if field := template + "spec.containers[" + strconv.Itoa(i) + "].image"; p.Spec.Containers[i].Image == "auto" {
				c.warn(o, field, "ImageNotInjected", "is auto, for injection to replace, but the pod asks for none: it will not start")
			}
		}
		return
	}
	asks := func(field string, user *int64) {
		if user != nil && *user == proxyUID {
			c.warn(o, template+field, "ProxyUser", "is %d, the sidecar's own user: the container's connections go past the sidecar. Use another one", proxyUID)
		}
	}
	if s := p.Spec.SecurityContext; s != nil {
		asks("spec.securityContext.runAsUser", s.RunAsUser)
	}
	for i := range p.Spec.Containers {
		container := &p.Spec.Containers[i]
		if s := container.SecurityContext; s != nil && container.Name != "istio-proxy" {
			asks("spec.containers["+strconv.Itoa(i)+"].securityContext.runAsUser", s.RunAsUser)
		}
	}
}

// checkTemplate warns of annotations for pods that stand at the workload, where
// nothing reads them.
func (c *cluster) checkTemplate(o *discovery.Object, p *corev1.Pod) {
	for _, a := range annotation.AllResourceAnnotations() {
		_, said := o.Meta.Annotations[a.Name]
		if _, both := p.Annotations[a.Name]; said && !both && slices.Equal(a.Resources, []annotation.ResourceTypes{annotation.Pod}) {
			c.warn(o, "metadata.annotations["+a.Name+"]", "AnnotationMisplaced",
				"has no effect on a %s: write it at its pods, below %smetadata.annotations", o.Meta.Kind, templatePath(o))
		}
	}
}

// templateLines are the lines of a pod's fields in its template.
func templateLines(lines config.Lines) config.Lines {
	out := config.Lines{}
	for field, line := range lines {
		if _, of, ok := strings.Cut(field, "spec.template."); ok {
			out[of] = line
		}
	}
	return out
}

// pod keeps a pod with what a kubelet would say about it.
func (c *cluster) pod(o *discovery.Object, given *corev1.Pod) {
	o = c.injected(o)
	p := *given
	p.Name, p.Namespace = o.Meta.Name, o.Meta.Namespace
	if p.Status.PodIP == "" && len(p.Status.PodIPs) == 0 && c.addresses != nil {
		for _, ip := range c.addresses(o.Meta.Key, o.Meta.Labels) {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		if len(p.Status.PodIPs) > 0 {
			p.Status.PodIP = p.Status.PodIPs[0].IP
		}
	}
	if p.Status.Phase == "" {
		p.Status.Phase = corev1.PodRunning
	}
	if len(p.Status.Conditions) == 0 {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	c.pods[p.Namespace] = append(c.pods[p.Namespace], &p)
	c.keep(with(o, &p))
}

// injected is a pod with the label that the injection of a sidecar gives.
func (c *cluster) injected(o *discovery.Object) *discovery.Object {
	if _, said := o.Meta.Labels[label.SecurityTlsMode.Name]; said || c.sidecars == nil || !c.sidecars(o.Meta.Key) {
		return o
	}
	out := *o
	out.Meta.Labels = maps.Clone(o.Meta.Labels)
	if out.Meta.Labels == nil {
		out.Meta.Labels = map[string]string{}
	}
	out.Meta.Labels[label.SecurityTlsMode.Name] = "istio"
	return &out
}

// podsOf are the pods that a workload's controller would make.
func (c *cluster) podsOf(o *discovery.Object) []*corev1.Pod {
	switch w := o.Body.(type) {
	case *appsv1.Deployment:
		return c.replicas(o, w.Spec.Replicas, &w.Spec.Template)
	case *appsv1.ReplicaSet:
		return c.replicas(o, w.Spec.Replicas, &w.Spec.Template)
	case *corev1.ReplicationController:
		if w.Spec.Template == nil {
			return nil
		}
		return c.replicas(o, w.Spec.Replicas, w.Spec.Template)
	case *appsv1.StatefulSet:
		return c.ordinals(o, w)
	case *appsv1.DaemonSet:
		return c.onePerNode(o, &w.Spec.Template)
	case *batchv1.Job:
		if w.Spec.Suspend != nil && *w.Spec.Suspend {
			return nil
		}
		return c.replicas(o, w.Spec.Parallelism, &w.Spec.Template)
	case *batchv1.CronJob:
		if w.Spec.Suspend != nil && *w.Spec.Suspend {
			return nil
		}
		return c.replicas(o, w.Spec.JobTemplate.Spec.Parallelism, &w.Spec.JobTemplate.Spec.Template)
	}
	return nil
}

// replicas are n pods, or one, called as a ReplicaSet calls them.
func (c *cluster) replicas(o *discovery.Object, n *int32, t *corev1.PodTemplateSpec) []*corev1.Pod {
	out := make([]*corev1.Pod, 0, c.count(o, n))
	for i := range c.count(o, n) {
		p := c.make(o, t, i)
		p.Name = o.Meta.Name + "-" + suffix(o, i)
		out = append(out, p)
	}
	return out
}

func (c *cluster) ordinals(o *discovery.Object, w *appsv1.StatefulSet) []*corev1.Pod {
	first := 0
	if w.Spec.Ordinals != nil {
		first = int(w.Spec.Ordinals.Start)
	}
	out := make([]*corev1.Pod, 0, c.count(o, w.Spec.Replicas))
	for i := range c.count(o, w.Spec.Replicas) {
		p := c.make(o, &w.Spec.Template, i)
		ordinal := strconv.Itoa(first + i)
		p.Name = o.Meta.Name + "-" + ordinal
		p.Labels[appsv1.StatefulSetPodNameLabel] = p.Name
		p.Labels[appsv1.PodIndexLabel] = ordinal
		p.Spec.Hostname, p.Spec.Subdomain = p.Name, w.Spec.ServiceName
		out = append(out, p)
	}
	return out
}

func (c *cluster) onePerNode(o *discovery.Object, t *corev1.PodTemplateSpec) []*corev1.Pod {
	n := int32(1)
	nodes := c.nodesFor(&t.Spec)
	if len(nodes) > 0 {
		n = int32(len(nodes))
	}
	out := c.replicas(o, &n, t)
	for i := range min(len(nodes), len(out)) {
		out[i].Spec.NodeName = nodes[i].Name
	}
	return out
}

func (c *cluster) count(o *discovery.Object, n *int32) int {
	switch {
	case n == nil:
		return 1
	case *n > maxReplicas:
		c.problems = slices.DeleteFunc(c.problems, func(p config.Problem) bool {
			return p.Object == o.Meta.Key && p.Code == "TooManyReplicas"
		})
		c.warn(o, "spec.replicas", "TooManyReplicas", "%d replicas are asked for, the first %d are made", *n, maxReplicas)
		return maxReplicas
	}
	return int(max(*n, 0))
}

// make is the i-th pod of a template, without a name.
func (c *cluster) make(o *discovery.Object, t *corev1.PodTemplateSpec, i int) *corev1.Pod {
	p := &corev1.Pod{Spec: *t.Spec.DeepCopy()}
	p.Labels = map[string]string{}
	for k, v := range t.Labels {
		p.Labels[k] = v
	}
	p.Annotations = t.Annotations
	yes := true
	group := o.Meta.Group
	if group != "" {
		group += "/"
	}
	p.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: group + o.Meta.Version, Kind: o.Meta.Kind, Name: o.Meta.Name, Controller: &yes,
	}}
	if nodes := c.nodesFor(&p.Spec); p.Spec.NodeName == "" && len(nodes) > 0 {
		first := int(hashOf(o, "node") % config.Hash(len(nodes)))
		p.Spec.NodeName = nodes[(first+i)%len(nodes)].Name
	}
	return p
}

func (c *cluster) nodesFor(spec *corev1.PodSpec) []*corev1.Node {
	var out []*corev1.Node
	for _, n := range c.nodes {
		if config.Selects(spec.NodeSelector, n.Labels) && !n.Spec.Unschedulable {
			out = append(out, n)
		}
	}
	return out
}

func hashOf(o *discovery.Object, parts ...string) config.Hash {
	return config.NewHasher().Str(o.Meta.Kind, o.Meta.Namespace, o.Meta.Name).Str(parts...).Sum()
}

// suffix is five characters that look like those of generated names.
func suffix(o *discovery.Object, i int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	var b strings.Builder
	for h := hashOf(o, strconv.Itoa(i)); b.Len() < 5; h /= config.Hash(len(letters)) {
		b.WriteByte(letters[h%config.Hash(len(letters))])
	}
	return b.String()
}
