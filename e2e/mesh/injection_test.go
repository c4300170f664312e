package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// careful is what the others call: probes of each kind, an init container, a
// second container, and a root that nobody can write.
var careful = strings.ReplaceAll(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: careful}
spec:
  selector: {matchLabels: {app: careful}}
  template:
    metadata: {labels: {app: careful}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      initContainers:
      - name: before
        image: IMAGE
        args: [check, /app]
        securityContext: &strict {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      containers:
      - name: app
        image: IMAGE
        args: [serve, "8080"]
        ports: [{name: http, containerPort: 8080}]
        startupProbe: {httpGet: {path: /startup, port: http}, periodSeconds: 1, failureThreshold: 60}
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 2}
        securityContext: *strict
      - name: second
        image: IMAGE
        args: [serve, "8081"]
        livenessProbe: {exec: {command: [/app, check, /app]}, periodSeconds: 2}
        readinessProbe: {httpGet: {path: /, port: 8081, scheme: HTTP}, periodSeconds: 1}
        securityContext: *strict
---
apiVersion: v1
kind: Service
metadata: {name: careful}
spec:
  selector: {app: careful}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
`, "IMAGE", appImage)

// workloads are one of each kind that makes pods. Each pod's application calls
// or answers, so that a sidecar that does not work shows.
var workloads = strings.ReplaceAll(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful}
spec:
  serviceName: stateful
  selector: {matchLabels: {app: stateful}}
  template:
    metadata: {labels: {app: stateful}}
    spec:
      containers:
      - {name: app, image: IMAGE, args: [serve, "8080"]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon}
spec:
  selector: {matchLabels: {app: daemon}}
  template:
    metadata: {labels: {app: daemon}}
    spec:
      containers:
      - {name: app, image: IMAGE, args: [serve, "8080"]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: job}}
    spec:
      restartPolicy: Never
      containers:
      - {name: app, image: IMAGE, args: [once, "http://careful.kinds/"]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cron}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata: {labels: {app: cron}}
        spec:
          restartPolicy: Never
          containers:
          - {name: app, image: IMAGE, args: [once, "http://careful.kinds/"]}
---
# Those that want none.
apiVersion: v1
kind: Pod
metadata: {name: declined, labels: {app: declined, sidecar.istio.io/inject: "false"}}
spec:
  containers:
  - {name: app, image: IMAGE, args: [serve, "8080"]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec:
  hostNetwork: true
  containers:
  - {name: app, image: IMAGE, args: [serve, "127.0.0.1:18099"]}
`, "IMAGE", appImage)

// TestKindsOfPods injects every kind of workload, and leaves alone what opted
// out: their pods work, and Jobs end although their sidecar would not.
func TestKindsOfPods(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "kinds", "istio-injection=enabled")
	w.apply(t, "kinds", careful)
	pods := w.ready(t, "kinds", "app=careful", 1)
	w.apply(t, "kinds", workloads)
	for _, selector := range []string{"app=stateful", "app=daemon"} {
		pods = append(pods, w.ready(t, "kinds", selector, 1)...)
	}
	pods = append(pods, w.endsWell(t, "kinds", "job"), w.endsWell(t, "kinds", "cron"))
	for _, p := range pods {
		if !hasProxy(&p) {
			t.Errorf("pod %s has no sidecar", p.Name)
		}
		if p.Annotations["sidecar.istio.io/status"] == "" {
			t.Errorf("pod %s has no sidecar.istio.io/status", p.Name)
		}
	}
	for _, p := range append(w.ready(t, "kinds", "app=declined", 1), w.ready(t, "kinds", "app=host", 1)...) {
		if hasProxy(&p) || p.Annotations["sidecar.istio.io/status"] != "" {
			t.Errorf("pod %s was touched", p.Name)
		}
	}
	for _, s := range pods[0].Status.ContainerStatuses {
		if s.RestartCount > 0 {
			t.Errorf("container %s of %s was restarted %d times", s.Name, pods[0].Name, s.RestartCount)
		}
	}
}

// endsWell waits for a pod of a Job or CronJob to succeed.
func (w *world) endsWell(t *testing.T, namespace, app string) corev1.Pod {
	t.Helper()
	var out corev1.Pod
	w.await(t, "success of "+app, func(ctx context.Context) error {
		pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			switch p.Status.Phase {
			case corev1.PodSucceeded:
				out = p
				return w.jobDone(ctx, namespace, p.Labels[batchv1.JobNameLabel])
			case corev1.PodFailed:
				t.Fatalf("pod %s failed: %s", p.Name, waitsFor(&p))
			}
		}
		return fmt.Errorf("%d pods, none has ended", len(pods.Items))
	})
	return out
}

func (w *world) jobDone(ctx context.Context, namespace, name string) error {
	j, err := w.kube.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if j.Status.Succeeded == 0 {
		return errors.New("the Job does not know that it is done")
	}
	return nil
}
