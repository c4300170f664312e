package inject

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ofCronJob is how a CronJob names its Jobs: its own name and the minute.
var ofCronJob = regexp.MustCompile(`^(.+)-\d{8,10}$`)

// workload is what people call the pod's owner: the Deployment, not its
// ReplicaSet. A pod with a name of its own is a workload itself.
func workload(pod *corev1.Pod) (types.NamespacedName, metav1.TypeMeta) {
	name := types.NamespacedName{Name: pod.Name, Namespace: pod.Namespace}
	kind := metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	ref := metav1.GetControllerOfNoCopy(pod)
	if pod.GenerateName == "" || ref == nil {
		return name, kind
	}
	kind = metav1.TypeMeta{Kind: ref.Kind, APIVersion: ref.APIVersion}
	name.Name = ref.Name
	above := func(hash string) (string, bool) {
		return strings.CutSuffix(ref.Name, "-"+pod.Labels[hash])
	}
	switch ref.Kind {
	case "ReplicaSet":
		if n, ok := above("pod-template-hash"); ok && pod.Labels["pod-template-hash"] != "" {
			name.Name, kind.Kind = n, "Deployment"
		} else if n, ok := above("rollouts-pod-template-hash"); ok && pod.Labels["rollouts-pod-template-hash"] != "" {
			name.Name, kind = n, metav1.TypeMeta{Kind: "Rollout", APIVersion: "v1alpha1"}
		}
	case "ReplicationController":
		if n := pod.Labels["deploymentconfig"]; n != "" {
			name.Name, kind.Kind = n, "DeploymentConfig"
		}
	case "Job":
		if m := ofCronJob.FindStringSubmatch(ref.Name); m != nil {
			name.Name, kind = m[1], metav1.TypeMeta{Kind: "CronJob", APIVersion: "batch/v1"}
		}
	}
	return name, kind
}
