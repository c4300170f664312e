package mesh

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// istioctl runs Istio's own command line, and returns all that it says: some
// of its answers go to the standard error.
func (w *world) istioctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.tool("istioctl"), append(args, "--kubeconfig", w.kubeconfig)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("istioctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Istio's own command line finds control plane and proxies in the cluster, and
// what it is told agrees with what the Envoys have.
func TestIstioctl(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	w.namespace(t, "tools", "istio-injection=enabled")
	w.apply(t, "tools", strings.ReplaceAll(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec:
      containers:
      - {name: app, image: IMAGE, args: [serve, "8080"], ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
`, "IMAGE", appImage))
	web := w.ready(t, "tools", "app=web", 1)[0]
	pod := web.Name + ".tools"
	for name, c := range map[string]struct {
		args  []string
		wants []string
	}{
		"version":        {[]string{"version"}, []string{"control plane version: ", "data plane version: "}},
		"proxy-status":   {[]string{"proxy-status"}, []string{pod, "Kubernetes", "istiod-", "CDS,LDS,EDS,RDS"}},
		"of one pod":     {[]string{"proxy-status", pod}, []string{"Clusters Match", "Listeners Match", "Routes Match"}},
		"its clusters":   {[]string{"proxy-config", "clusters", pod}, []string{"web.tools.svc.cluster.local", "inbound"}},
		"its listeners":  {[]string{"proxy-config", "listeners", pod}, []string{"15001", "15006", "Route: 80"}},
		"its routes":     {[]string{"proxy-config", "routes", pod}, []string{"web.tools.svc.cluster.local:80", "web.tools"}},
		"its endpoints":  {[]string{"proxy-config", "endpoints", pod}, []string{"outbound|80||web.tools.svc.cluster.local", "HEALTHY"}},
		"its secrets":    {[]string{"proxy-config", "secret", pod}, []string{"default", "ROOTCA", "ACTIVE"}},
		"its bootstrap":  {[]string{"proxy-config", "bootstrap", pod}, []string{"sidecar~", `"INSTANCE_IPS": "` + web.Status.PodIP + `",`}},
		"what it is":     {[]string{"experimental", "describe", "pod", pod}, []string{"Service: web.tools", "Port: http 80/HTTP", "VirtualService: web.tools"}},
		"mistakes":       {[]string{"analyze", "-n", "tools"}, []string{"No validation issues found when analyzing namespace: tools."}},
		"a debug page":   {[]string{"experimental", "internal-debug", "syncz", "--all"}, []string{pod}},
		"a page of each": {[]string{"experimental", "internal-debug", "connections", "--all"}, []string{"istiod-", "totalClients"}},
	} {
		t.Run(name, func(t *testing.T) {
			var before error
			w.await(t, fmt.Sprint("istioctl ", c.args), func(ctx context.Context) error {
				out, err := w.istioctl(ctx, c.args...)
				if ctx.Err() != nil {
					return before // the end of patience says nothing
				}
				if before = err; err != nil {
					return err
				}
				for _, want := range c.wants {
					if !strings.Contains(out, want) {
						before = fmt.Errorf("lacks %q:\n%s", want, out)
						return before
					}
				}
				return nil
			})
		})
	}
}
