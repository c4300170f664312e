package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/e2e/cluster"
	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

const (
	hub      = "docker.io/pilotfish"
	tag      = "e2e"
	appImage = hub + "/e2e-app:" + tag
)

// world is the cluster that all tests of this package share, with pilotfish
// installed.
type world struct {
	root       string // of the repository
	tmp        string
	bin        string // the binaries under test
	kubeconfig string
	config     *rest.Config
	kube       kubernetes.Interface
	objects    dynamic.Interface
	node       *cluster.Node // nil: somebody else's cluster
}

// shared is set by TestMain; missing says why there is none.
var (
	shared  *world
	missing error
)

// unavailable is what this machine lacks for a cluster.
type unavailable struct{ error }

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := begin(ctx)
	defer func() {
		if w != nil {
			_ = os.RemoveAll(w.tmp)
		}
	}()
	code := 1
	if lacks, ok := errors.AsType[unavailable](err); ok {
		missing = lacks
		return m.Run()
	}
	if err == nil {
		shared = w
		done := make(chan int, 1)
		go func() { done <- m.Run() }()
		select {
		case code = <-done:
		case <-ctx.Done(): // interrupted: the cluster must go nevertheless
		}
	} else {
		fmt.Fprintln(os.Stderr, "cluster tests:", err)
	}
	if w != nil && w.node != nil && os.Getenv("KEEP_CLUSTER") == "" {
		if err := w.node.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "the cluster leaves something behind:", err)
			code = 1
		}
	}
	return code
}

// need returns the shared world. Without one the test fails in CI and is
// skipped elsewhere.
func need(t *testing.T) *world {
	t.Helper()
	if shared != nil {
		return shared
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return nil
}

// begin builds, starts the cluster and installs pilotfish in it.
func begin(ctx context.Context) (*world, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	w := &world{root: root, kubeconfig: os.Getenv("KUBECONFIG")}
	if w.tmp, err = os.MkdirTemp("", "pilotfish-e2e-"); err != nil {
		return nil, err
	}
	w.bin = filepath.Join(w.tmp, "bin")
	if w.kubeconfig == "" {
		if err := w.ownCluster(); err != nil {
			return w, err
		}
	}
	archives, err := w.build(ctx)
	if err != nil {
		return w, err
	}
	if err := w.load(ctx, archives); err != nil {
		return w, err
	}
	if w.config, err = clientcmd.BuildConfigFromFlags("", w.kubeconfig); err != nil {
		return w, err
	}
	w.config.QPS = -1
	w.config.WarningHandlerWithContext = rest.NoWarnings{}
	if w.kube, err = kubernetes.NewForConfig(w.config); err != nil {
		return w, err
	}
	if w.objects, err = dynamic.NewForConfig(w.config); err != nil {
		return w, err
	}
	return w, w.install(ctx)
}

// ownCluster prepares the node of this machine.
func (w *world) ownCluster() error {
	if runtime.GOOS != "linux" {
		return unavailable{errors.New("a cluster of its own needs Linux; KUBECONFIG can name another one")}
	}
	dir := os.Getenv("KUBE_BIN_DIR")
	if dir == "" {
		dir = filepath.Join(w.root, ".cache", "bin")
	}
	node, err := cluster.New(filepath.Join(w.root, ".cache", "e2e"), dir)
	if err != nil {
		return err
	}
	if err := node.Missing(); err != nil {
		return unavailable{err}
	}
	w.node, w.kubeconfig = node, node.Kubeconfig()
	return nil
}

// build makes the binaries and the images.
func (w *world) build(ctx context.Context) ([]string, error) {
	envoy, err := w.command(ctx, filepath.Join(w.root, "tools", "envoy.sh"))
	if err != nil {
		return nil, unavailable{err}
	}
	for _, pkg := range []string{"./cmd/pilotfish", "./cmd/pilotfish-agent", "./e2e/app", "./e2e/cluster/ctl"} {
		if _, err := w.command(ctx, "go", "build", "-trimpath", "-o", w.bin+"/", pkg); err != nil {
			return nil, err
		}
	}
	proxy, err := images.Proxy(envoy, filepath.Join(w.bin, "pilotfish-agent"))
	if err != nil {
		return nil, err
	}
	app := images.Image{
		Layers:     [][]images.File{{{Path: "/app", Source: filepath.Join(w.bin, "app")}, {Path: "/tmp", Folder: true, Mode: 0o1777}}},
		Entrypoint: []string{"/app"}, Cmd: []string{"serve"},
	}
	var archives []string
	for name, image := range map[string]images.Image{
		"pilotfish": images.Pilotfish(filepath.Join(w.bin, "pilotfish")), "pilotfish-proxy": proxy, "e2e-app": app,
	} {
		archive := filepath.Join(w.tmp, name+".tar")
		if err := image.Write(archive, hub+"/"+name+":"+tag, hub+"/"+name+":"+tag+"-next"); err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// load starts the cluster, if it is ours, and gives it the images.
func (w *world) load(ctx context.Context, archives []string) error {
	if w.node == nil {
		loader := strings.Fields(os.Getenv("LOAD_IMAGES"))
		if len(loader) == 0 {
			return errors.New(`KUBECONFIG is set: LOAD_IMAGES must be a command that loads docker archives, such as "kind load image-archive"`)
		}
		_, err := w.command(ctx, loader[0], append(loader[1:], archives...)...)
		return err
	}
	args := []string{"up", "--state", filepath.Join(w.root, ".cache", "e2e"), "--app", filepath.Join(w.bin, "app")}
	if dir := os.Getenv("KUBE_BIN_DIR"); dir != "" {
		args = append(args, "--bin", dir)
	} else {
		args = append(args, "--bin", filepath.Join(w.root, ".cache", "bin"))
	}
	for _, a := range archives {
		args = append(args, "--image", a)
	}
	_, err := w.command(ctx, filepath.Join(w.bin, "ctl"), args...)
	return err
}

// install runs the command that a user would run.
func (w *world) install(ctx context.Context) error {
	out, err := w.pilotfish(ctx, "install", "--timeout=3m",
		"--set", "tag="+tag, "--set", "imagePullPolicy=Never",
		"--gateway-set", "service.type=ClusterIP")
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, out, w.state(ctx))
	}
	return nil
}

// pilotfish runs the command under test.
func (w *world) pilotfish(ctx context.Context, args ...string) (string, error) {
	return w.command(ctx, filepath.Join(w.bin, "pilotfish"), append([]string{args[0], "--kubeconfig", w.kubeconfig}, args[1:]...)...)
}

// command runs a program in the repository's root and returns what it printed
// to its standard output.
func (w *world) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = w.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "KUBECONFIG="+w.kubeconfig)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, problems.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// state is what a person would look at first when something does not work.
func (w *world) state(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--field-selector", "type=Warning", "--sort-by", ".lastTimestamp"},
		{"logs", "-n", "istio-system", "-l", "app=istiod", "--tail=30", "--prefix"},
		{"logs", "-n", "rotate", "-l", "security.istio.io/tlsMode", "-c", "istio-proxy", "--tail=15", "--prefix"},
	} {
		out, err := w.kubectl(ctx, "", args...)
		fmt.Fprintf(&b, "== kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}

// kubectl runs the tool of that name with an input.
func (w *world) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	name := filepath.Join(w.root, ".cache", "bin", "kubectl")
	if dir := os.Getenv("KUBE_BIN_DIR"); dir != "" {
		name = filepath.Join(dir, "kubectl")
	}
	if _, err := os.Stat(name); err != nil {
		name = "kubectl"
	}
	cmd := exec.CommandContext(ctx, name, append([]string{"--kubeconfig", w.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
