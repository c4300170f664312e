package inputs

import (
	"cmp"
	"maps"
	"strings"

	"istio.io/api/label"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// running is what a cluster has that files leave to it: pods, by the workloads
// that they are of, and Services, whose addresses never change.
type running struct {
	pods     map[config.Key][]*discovery.Object
	services map[config.Key]*corev1.Service
}

func runningIn(store *discovery.Store) running {
	r := running{map[config.Key][]*discovery.Object{}, map[config.Key]*corev1.Service{}}
	for _, o := range store.InEffect("Pod") {
		if p, ok := o.Body.(*corev1.Pod); ok {
			owner := discovery.OwnerOf(p)
			r.pods[owner] = append(r.pods[owner], o)
		}
	}
	for _, o := range store.InEffect("Service") {
		if svc, ok := o.Body.(*corev1.Service); ok {
			r.services[o.Meta.Key] = svc
		}
	}
	return r
}

// under is what files say of the cluster: a workload that it runs keeps its pods,
// and none are made up beside them; what they are given by a template that
// differs is in pods, and they themselves are in had.
func (r running) under(changes []discovery.Change) (files, pods, had []discovery.Change) {
	if r.pods == nil { // there is no cluster
		return changes, nil, nil
	}
	settled := map[config.Key]bool{}
	for _, c := range changes {
		switch body := c.Object.Body.(type) {
		case *corev1.Service:
			c.Object.Body = r.addressed(c.Object.Meta.Key, body)
		case *corev1.Pod:
			owner := discovery.OwnerOf(body)
			if !madeUp(body) || len(r.pods[owner]) == 0 {
				break
			}
			if settled[owner] { // all pods of a template are alike
				continue
			}
			settled[owner] = true
			for _, live := range r.pods[owner] {
				if now, differs := fromTemplate(live, body); differs {
					pods = append(pods, discovery.Change{Object: now})
					had = append(had, discovery.Change{Object: *live})
				}
			}
			continue
		}
		files = append(files, c)
	}
	return files, pods, had
}

// madeUp reports whether a pod was made of a template in a file: a controller
// of a cluster has a UID.
func madeUp(p *corev1.Pod) bool {
	return len(p.OwnerReferences) == 1 && p.OwnerReferences[0].UID == ""
}

// addressed is a file's Service with the addresses that the cluster gave it.
func (r running) addressed(key config.Key, svc *corev1.Service) *corev1.Service {
	live := r.services[key]
	if live == nil || live.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return svc
	}
	out := *svc
	out.Spec.ClusterIP, out.Spec.ClusterIPs, out.Spec.IPFamilies = live.Spec.ClusterIP, live.Spec.ClusterIPs, live.Spec.IPFamilies
	return &out
}

// fromTemplate is a pod as it will be once the workload's template is that of
// made: its labels, Istio's annotations and the service account. What else the
// pod has may come from injection, and stays.
func fromTemplate(live *discovery.Object, made *corev1.Pod) (now discovery.Object, differs bool) {
	now = *live
	now.Meta.Labels, now.Meta.Annotations = maps.Clone(live.Meta.Labels), maps.Clone(live.Meta.Annotations)
	set := func(of *map[string]string, key, value string) {
		if had, ok := (*of)[key]; ok && had == value {
			return
		}
		if *of == nil {
			*of = map[string]string{}
		}
		(*of)[key], differs = value, true
	}
	for k, v := range made.Labels {
		if k != appsv1.StatefulSetPodNameLabel && k != appsv1.PodIndexLabel { // each pod's own
			set(&now.Meta.Labels, k, v)
		}
	}
	if differs { // injection makes these of the others
		for _, k := range []string{label.ServiceCanonicalName.Name, label.ServiceCanonicalRevision.Name} {
			if _, said := made.Labels[k]; !said {
				delete(now.Meta.Labels, k)
			}
		}
	}
	for k, v := range made.Annotations {
		if strings.Contains(k, "istio.io/") {
			set(&now.Meta.Annotations, k, v)
		}
	}
	p, ok := live.Body.(*corev1.Pod)
	if !ok {
		return now, false
	}
	body := *p
	body.Labels, body.Annotations = now.Meta.Labels, now.Meta.Annotations
	if account := accountOf(made); account != accountOf(p) {
		body.Spec.ServiceAccountName, differs = account, true
	}
	now.Body = &body
	return now, differs
}

func accountOf(p *corev1.Pod) string { return cmp.Or(p.Spec.ServiceAccountName, "default") }
