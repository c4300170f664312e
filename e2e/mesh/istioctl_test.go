package mesh

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var spaces = regexp.MustCompile(` +`)

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
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
`, "IMAGE", appImage))
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong, namespace: tools}
spec:
  hosts: [wrong.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: web}}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: tools}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [right.example.com]}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	web := w.ready(t, "tools", "app=web", 1)[0]
	pod := web.Name + ".tools"
	edge := w.ready(t, "istio-system", "istio=ingressgateway", 1)[0].Name + ".istio-system"
	for name, c := range map[string]struct {
		args  []string
		wants []string
	}{
		"version":       {[]string{"version"}, []string{"control plane version: ", "data plane version: "}},
		"proxy-status":  {[]string{"proxy-status"}, []string{pod, "Kubernetes", "istiod-", "CDS,LDS,EDS,RDS"}},
		"of one pod":    {[]string{"proxy-status", pod}, []string{"Clusters Match", "Listeners Match", "Routes Match"}},
		"its clusters":  {[]string{"proxy-config", "clusters", pod}, []string{"web.tools.svc.cluster.local", "inbound"}},
		"its listeners": {[]string{"proxy-config", "listeners", pod}, []string{"15001", "15006", "Route: 80"}},
		"its routes":    {[]string{"proxy-config", "routes", pod}, []string{"web.tools.svc.cluster.local:80", "web.tools"}},
		"its endpoints": {[]string{"proxy-config", "endpoints", pod}, []string{"outbound|80||web.tools.svc.cluster.local", "HEALTHY"}},
		"its secrets":   {[]string{"proxy-config", "secret", pod}, []string{"default", "ROOTCA", "ACTIVE"}},
		"its bootstrap": {[]string{"proxy-config", "bootstrap", pod}, []string{"sidecar~", `"INSTANCE_IPS": "` + web.Status.PodIP + `",`}},
		"what it is": {[]string{"experimental", "describe", "pod", pod}, []string{"Service: web.tools", "Port: http 80/HTTP", "VirtualService: web.tools",
			"RBAC policies: ns[tools]-policy[web]-rule[0]", "Workload mTLS mode: STRICT", "default.tools"}},
		"what serves it":     {[]string{"experimental", "describe", "service", "web.tools"}, []string{"Service: web.tools", "Port: http 80/HTTP", "VirtualService: web.tools", "RBAC policies: ns[tools]-policy[web]-rule[0]"}},
		"of the gateway":     {[]string{"proxy-status", edge}, []string{"Clusters Match", "Listeners Match"}},
		"all that it has":    {[]string{"proxy-config", "all", pod}, []string{"cluster/inbound|8080||", "listener/virtualInbound", "route/inbound|8080||", "secret/ROOTCA", "endpoint/"}},
		"its log levels":     {[]string{"proxy-config", "log", pod}, []string{"active loggers:", "connection: warning"}},
		"its policies":       {[]string{"experimental", "authz", "check", pod}, []string{"ALLOW web.tools"}},
		"its statistics":     {[]string{"experimental", "envoy-stats", pod}, []string{"cluster_manager.cds.version_text", "cluster.xds-grpc."}},
		"why it is injected": {[]string{"experimental", "check-inject", "-n", "tools", web.Name}, []string{"istio-sidecar-injector", "Namespace label istio-injection=enabled matches"}},
		"injectors":          {[]string{"experimental", "injector", "list"}, []string{"tools default default: 1\n", "tools istio-sidecar-injector default docker.io/pilotfish/pilotfish-proxy:e2e"}},
		"clusters":           {[]string{"remote-clusters"}, []string{"Kubernetes", "synced", "istiod-"}},
		"revisions":          {[]string{"tag", "list"}, []string{"default"}},
		"before an upgrade":  {[]string{"experimental", "precheck"}, []string{"No issues found"}},
		"a file by itself":   {[]string{"validate", "-f", wrong}, []string{"is valid"}},
		"a wrong file":       {[]string{"analyze", "-n", "tools", wrong}, []string{"Warning [IST0132]", "wrong.example.com"}},
		"mistakes":           {[]string{"analyze", "-n", "tools"}, []string{"No validation issues found when analyzing namespace: tools."}},
		"a debug page":       {[]string{"experimental", "internal-debug", "syncz", "--all"}, []string{pod}},
		"a page of each":     {[]string{"experimental", "internal-debug", "connections", "--all"}, []string{"istiod-", "totalClients"}},
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
				out = spaces.ReplaceAllString(out, " ") // columns are as wide as what others have in them
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
