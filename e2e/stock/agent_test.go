package stock

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

const mesh = `
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: app, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: app-1, namespace: shop, labels: {app: app, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: app, containers: [{name: a, image: a, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: ` + podIP + `, podIPs: [{ip: ` + podIP + `}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {clusterIP: 10.96.0.77, selector: {app: app}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

// world is a control plane of a real API server, and the files of a pod.
type world struct {
	t       *testing.T
	kube    kubernetes.Interface
	address string // of ADS and the authority
	root    string // of the pod's files
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := kubetest.Shared(t)
	s.Client(t).Apply(t, mesh)
	return startWorld(t, s, serve.Options{})
}

// startWorld starts the control plane of a server that holds the mesh.
func startWorld(t *testing.T, s *kubetest.Server, o serve.Options) *world {
	t.Helper()
	kube, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, kube: kube, address: "127.0.0.1:15012"}
	if w.root, err = os.MkdirTemp("", "p"); err != nil { // short: a socket's path has at most 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.root) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	o.Kubeconfig, o.SecureXDSAddress, o.HTTPAddress, o.Identity = s.Kubeconfig(), w.address, "127.0.0.1:8080", "pilotfish-1"
	o.Log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	go func() { ended <- serve.Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w.mount()
	return w
}

// mount puts into the pod's folder what injection mounts.
func (w *world) mount() {
	w.t.Helper()
	var roots string
	envoytest.Eventually(w.t, 60*time.Second, func() string {
		c, err := w.kube.CoreV1().ConfigMaps("shop").Get(w.t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		roots = c.Data["root-cert.pem"]
		return ""
	})
	pod, err := w.kube.CoreV1().Pods("shop").Get(w.t.Context(), "app-1", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := w.kube.CoreV1().ServiceAccounts("shop").CreateToken(w.t.Context(), "app", &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{
			Audiences:      []string{"istio-ca"},
			BoundObjectRef: &authentication.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	template, err := os.ReadFile(filepath.Join(filepath.Dir(kubetest.Binary(w.t, "pilot-agent")), "envoy_bootstrap.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	for path, text := range map[string]string{
		"var/run/secrets/istio/root-cert.pem":             roots,
		"var/run/secrets/tokens/istio-token":              token.Status.Token,
		"var/lib/istio/envoy/envoy_bootstrap_tmpl.json":   string(template),
		"etc/istio/pod/labels":                            "app=\"app\"\n",
		"etc/istio/pod/annotations":                       "",
		"var/run/secrets/workload-spiffe-uds/placeholder": "",
		"var/lib/istio/data/placeholder":                  "",
	} {
		path = filepath.Join(w.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// agent runs Istio's own agent in the pod's folder until the test ends.
func (w *world) agent(more ...string) *log {
	w.t.Helper()
	config := fmt.Sprintf(`{"discoveryAddress": %q, "binaryPath": %q, "statusPort": 15020, "terminationDrainDuration": "1s"}`,
		w.address, envoytest.Binary(w.t))
	cmd := exec.Command(kubetest.Binary(w.t, "pilot-agent"), "proxy", "sidecar", "--domain", "shop.svc.cluster.local",
		"--proxyLogLevel=warning", "--log_output_level=default:info,xdsproxy:debug")
	cmd.Dir = w.root
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "POD_NAME=app-1", "POD_NAMESPACE=shop", "INSTANCE_IP=" + podIP, "SERVICE_ACCOUNT=app",
		"ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_DNS_CAPTURE=true", "ISTIO_META_INTERCEPTION_MODE=REDIRECT",
		"ISTIOD_SAN=istiod.istio-system.svc", "PILOT_CERT_PROVIDER=istiod", "TRUST_DOMAIN=cluster.local",
		"PROXY_CONFIG=" + config,
	}, more...)
	out := &log{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it says so itself
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", out)
		}
	})
	return out
}

// log takes a process's output.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A stock agent gets its certificate, its Envoy's configuration and the names
// for its DNS server.
func TestStockAgent(t *testing.T) {
	w := newWorld(t)
	w.agent("PROXY_CONFIG_XDS_AGENT=true")
	envoytest.Eventually(t, 90*time.Second, func() string { return get("http://127.0.0.1:15021/healthz/ready", "") })
	envoytest.Eventually(t, 30*time.Second, func() string {
		return get("http://127.0.0.1:15000/config_dump", "outbound|80||app.shop.svc.cluster.local", "inbound|8080||", `"name": "virtualInbound"`, `"name": "ROOTCA"`)
	})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", "127.0.0.1:15053")
	}}
	envoytest.Eventually(t, 30*time.Second, func() string {
		found, err := resolver.LookupHost(t.Context(), "app.shop.svc.cluster.local.")
		if err != nil || len(found) != 1 || found[0] != "10.96.0.77" {
			return fmt.Sprint(found, err)
		}
		return ""
	})
	var proxies []struct{ Proxy, Sync string }
	envoytest.Eventually(t, 30*time.Second, func() string {
		body, err := fetch("http://127.0.0.1:8080/debug/syncz")
		if err == nil {
			err = json.Unmarshal([]byte(body), &proxies)
		}
		if err != nil || len(proxies) != 1 || proxies[0].Sync != "SYNCED" || !strings.Contains(proxies[0].Proxy, "app-1.shop") {
			return fmt.Sprint(body, err)
		}
		return ""
	})
}
