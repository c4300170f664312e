package pod_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// world is a control plane with an authority, on this machine's ports.
type world struct {
	t         *testing.T
	authority *ca.Authority
	plane     *serve.Plane
	folder    string // of the mesh's YAML
	address   string // of ADS and the authority
	// root is where the pod's files are.
	root string

	mu     sync.Mutex
	health []string // what agents have reported
}

// reports are those of the workload's health so far.
func (w *world) reports() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.health)
}

func (w *world) forgetReports() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health = nil
}

// token is a pod's; the API server that vouches for it is not part of these
// tests.
const token = "token-of-app"

type tokens struct{}

func (tokens) Review(_ context.Context, t string) (ca.Caller, error) {
	if t != token {
		return ca.Caller{}, fmt.Errorf("unknown token")
	}
	return ca.Caller{Identity: ca.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "app"}, By: ca.ByToken}, nil
}

const meshYAML = `
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000, targetPort: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app, version: v1, security.istio.io/tlsMode: istio}}
    spec:
      serviceAccountName: app
      containers: [{name: app, image: example/app, ports: [{name: http, containerPort: 8080}]}]
`

func newWorld(t *testing.T, o ca.Options) *world {
	t.Helper()
	envoytest.Binary(t)
	w := &world{t: t, folder: t.TempDir()}
	root, err := os.MkdirTemp("", "p") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	w.root = root
	w.write(filepath.Join(w.folder, "mesh.yaml"), meshYAML)
	r, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	o.Names = append(o.Names, "localhost", "istiod.istio-system.svc")
	w.authority = ca.NewAuthority(r, o)
	w.publishRoots()
	w.file("/var/run/secrets/tokens/istio-token", token)
	w.file("/etc/istio/pod/labels", "app=\"app\"\nversion=\"v1\"\n")
	w.startPlane()
	return w
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// file puts a file into the pod.
func (w *world) file(path, text string) { w.write(filepath.Join(w.root, path), text) }

// publishRoots does what keeps ConfigMap istio-ca-root-cert.
func (w *world) publishRoots() {
	bundle, _ := w.authority.TrustBundle()
	w.file("/var/run/secrets/istio/root-cert.pem", string(bundle))
}

func (w *world) startPlane() {
	source := file.New([]string{w.folder}, file.WithAddresses(func(config.Key, map[string]string) []string { return []string{podIP} }))
	callers := &ca.Authenticator{Tokens: tokens{}, Domains: func() []string { return []string{"cluster.local"} }}
	so := snapshot.Options{Authorize: func(ctx context.Context, p *config.Proxy) (snapshot.Grant, error) {
		c, err := callers.Authenticate(ctx)
		if err == nil && (c.Namespace != p.Namespace || c.ServiceAccount != p.ServiceAccount) {
			err = fmt.Errorf("%s says that it is %s/%s", c.Identity, p.Namespace, p.ServiceAccount)
		}
		return snapshot.Grant{Secrets: true}, err
	}}
	so.Health = func(_ *config.Proxy, fault error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if fault == nil {
			fault = errors.New("healthy")
		}
		w.health = append(w.health, fault.Error())
	}
	w.plane = serve.NewPlane([]serve.NamedSource{{Name: file.Name, Source: source}}, so)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.plane.Run(ctx) })
	tlsConfig := &tls.Config{
		ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			serving, err := w.authority.Serving()
			if err != nil {
				return nil, err
			}
			clients, err := w.authority.Clients()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				Certificates: []tls.Certificate{*serving}, ClientCAs: clients, NextProtos: []string{"h2"},
				ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
			}, nil
		},
	}
	g := grpc.NewServer(append(so.GRPC(), grpc.Creds(credentials.NewTLS(tlsConfig)))...)
	w.plane.Server.Register(g)
	(&ca.Service{
		Authority: w.authority, Metrics: ca.NewMetrics(w.authority, prometheus.NewRegistry()),
		Callers: callers,
	}).Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	w.address = "localhost:" + port
	running.Go(func() { _ = g.Serve(l) })
	w.t.Cleanup(func() {
		g.Stop()
		cancel()
		w.plane.Server.Close()
		running.Wait()
	})
}

// running is an agent in this process.
type running struct {
	stop func()
	done chan struct{}
	err  error // valid after done
	log  *logBuffer
}

// options are those of a pod of the world, as injection sets them.
func (w *world) options(proxyConfig map[string]any, env ...string) pod.Options {
	pc := map[string]any{"discoveryAddress": w.address, "binaryPath": envoytest.Binary(w.t), "concurrency": 1,
		"terminationDrainDuration": "0.1s"}
	for k, v := range proxyConfig {
		pc[k] = v
	}
	js, err := json.Marshal(pc)
	if err != nil {
		w.t.Fatal(err)
	}
	return pod.Options{
		Type: pod.Sidecar, Domain: "shop.svc.cluster.local", Root: w.root, Version: "test", LogLevel: "warning",
		Environ: append([]string{
			"POD_NAME=app-0", "POD_NAMESPACE=shop", "INSTANCE_IP=" + podIP, "SERVICE_ACCOUNT=app", "PROXY_CONFIG=" + string(js),
			"ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_INTERCEPTION_MODE=REDIRECT", "ISTIO_META_WORKLOAD_NAME=app",
			`ISTIO_META_POD_PORTS=[{"name":"http","containerPort":8080,"protocol":"TCP"}]`,
		}, env...),
		Addresses: []string{},
	}
}

func (w *world) start(o pod.Options) *running {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan struct{}), log: &logBuffer{}}
	enc := zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig())
	log := zap.New(zapcore.NewCore(enc, r.log, zapcore.InfoLevel))
	go func() {
		defer close(r.done)
		r.err = pod.Run(ctx, o, log)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-r.done
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", r.log)
		}
	})
	return r
}

// logBuffer keeps a log.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) Sync() error { return nil }

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// get asks a port of the pod.
func get(url string) (status int, body string, err error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

const readyURL = "http://" + podIP + ":15021/healthz/ready"

// awaitReady waits for the pod; r, if not nil, must not end meanwhile.
func (w *world) awaitReady(r *running) {
	w.t.Helper()
	envoytest.Eventually(w.t, 30*time.Second, func() string {
		if r != nil {
			select {
			case <-r.done:
				w.t.Fatalf("the agent ended: %v", r.err)
			default:
			}
		}
		status, body, err := get(readyURL)
		if err != nil || status != http.StatusOK {
			return fmt.Sprintf("%d %s %v", status, body, err)
		}
		return ""
	})
}
