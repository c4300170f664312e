package mesh

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	told       sync.Map      // failed tests whose cluster's state was logged
}

// The world is made once, by the first test that needs it; until then the
// cluster does not run.
var (
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	withCluster       = sync.OnceValues(begin)

	// pilotfish tells whether pilotfish is installed in it.
	pilotfish struct {
		sync.Mutex
		installed bool
	}

	// toEnd are the nodes, and the folders that they were in, which must not
	// outlive the tests.
	toEnd struct {
		sync.Mutex
		nodes   []*cluster.Node
		folders []string
	}
)

// unavailable is what this machine lacks for a cluster.
type unavailable struct{ error }

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	defer stop()
	tmp, err := os.MkdirTemp("", "pilotfish-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	scratch = tmp
	// Those that may run side by side wait for the cluster, not for a processor.
	flag.Parse()
	if err := flag.Set("test.parallel", "9"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code, done := 1, make(chan int, 1)
	go func() { done <- m.Run() }()
	select {
	case code = <-done:
	case <-interrupted.Done(): // the clusters must go nevertheless
	}
	toEnd.Lock() // for good: nobody starts another one
	for _, n := range toEnd.nodes {
		if err := n.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "a cluster leaves something behind:", err)
			code = 1
		}
	}
	for _, f := range toEnd.folders {
		_ = os.RemoveAll(f)
	}
	return code
}

// scratch is a folder for what all tests share.
var scratch string

// endsWithTests has a node end with the tests, if nobody has ended it before.
func endsWithTests(n *cluster.Node) {
	toEnd.Lock()
	defer toEnd.Unlock()
	toEnd.nodes = append(toEnd.nodes, n)
}

// need returns the shared world, with pilotfish installed.
func need(t *testing.T) *world {
	t.Helper()
	w := needCluster(t)
	pilotfish.Lock()
	defer pilotfish.Unlock()
	if !pilotfish.installed {
		if err := w.install(interrupted); err != nil {
			t.Fatal(err)
		}
		pilotfish.installed = true
	}
	return w
}

// needBare returns the shared world without pilotfish, which a test before may
// have installed.
func needBare(t *testing.T) *world {
	t.Helper()
	w := needCluster(t)
	if w.node == nil {
		t.Skip("what is installed in somebody's cluster is not removed")
	}
	pilotfish.Lock()
	defer pilotfish.Unlock()
	if pilotfish.installed {
		if out, err := w.pilotfish(t.Context(), "uninstall", "--purge"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := w.kubectl(t.Context(), "", "delete", "namespace", "istio-system"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		pilotfish.installed = false
	}
	w.await(t, "the end of what tests before have removed", func(ctx context.Context) error {
		all, err := w.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, ns := range all.Items {
			if ns.DeletionTimestamp != nil || ns.Name == "istio-system" {
				return fmt.Errorf("namespace %s is %s", ns.Name, ns.Status.Phase)
			}
		}
		return nil
	})
	return w
}

// needCluster returns the shared world as it is. Where this machine cannot have
// one the test fails in CI and is skipped elsewhere.
func needCluster(t *testing.T) *world {
	t.Helper()
	w, err := withCluster()
	if lacks, ok := errors.AsType[unavailable](err); ok && os.Getenv("CI") != "true" {
		t.Skip(lacks)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// begin builds, starts the cluster and gives it the images.
func begin() (*world, error) {
	ctx := interrupted
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	w := &world{root: root, kubeconfig: os.Getenv("KUBECONFIG"), tmp: scratch, bin: filepath.Join(scratch, "bin")}
	if w.kubeconfig == "" {
		if err := w.ownCluster(); err != nil {
			return nil, err
		}
	}
	archives, err := w.build(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.load(ctx, archives); err != nil {
		return nil, err
	}
	if w.config, err = clientcmd.BuildConfigFromFlags("", w.kubeconfig); err != nil {
		return nil, err
	}
	w.config.QPS = -1
	w.config.WarningHandlerWithContext = rest.NoWarnings{}
	if w.kube, err = kubernetes.NewForConfig(w.config); err != nil {
		return nil, err
	}
	if w.objects, err = dynamic.NewForConfig(w.config); err != nil {
		return nil, err
	}
	return w, nil
}

// ownCluster prepares the node of this machine.
func (w *world) ownCluster() error {
	if runtime.GOOS != "linux" {
		return unavailable{errors.New("a cluster of its own needs Linux; KUBECONFIG can name another one")}
	}
	node, err := cluster.New(filepath.Join(w.root, ".cache", "e2e"), w.tools())
	if err != nil {
		return err
	}
	if err := node.Missing(); err != nil {
		return unavailable{err}
	}
	if os.Getenv("KEEP_CLUSTER") == "" {
		endsWithTests(node)
	}
	w.node, w.kubeconfig = node, node.Kubeconfig()
	return nil
}

// tools is the folder of the cluster's binaries; tool is the path of one.
func (w *world) tools() string {
	if dir := os.Getenv("KUBE_BIN_DIR"); dir != "" {
		return dir
	}
	return filepath.Join(w.root, ".cache", "bin")
}

func (w *world) tool(name string) string { return filepath.Join(w.tools(), name) }

// build makes the binaries and the images.
func (w *world) build(ctx context.Context) ([]string, error) {
	envoy, err := w.command(ctx, filepath.Join(w.root, "tools", "envoy.sh"))
	if err != nil {
		return nil, unavailable{err}
	}
	for _, pkg := range []string{"./cmd/pilotfish", "./cmd/pilotfish-agent", "./e2e/app", "./e2e/cluster/ctl"} {
		if _, err := w.command(ctx, "go", "build", "-trimpath", "-tags", "grpcnotrace", "-o", w.bin+"/", pkg); err != nil {
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
		// dev is the version of the charts as they are.
		if err := image.Write(archive, hub+"/"+name+":"+tag, hub+"/"+name+":"+tag+"-next", hub+"/"+name+":dev"); err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	for _, version := range []string{"v1", "v2"} {
		archive := filepath.Join(w.tmp, "myapp-"+version+".tar")
		if err := images.Example(filepath.Join(w.bin, "app"), version).Write(archive, "docker.io/example/myapp:"+version); err != nil {
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
	args := []string{"up", "--state", filepath.Join(w.root, ".cache", "e2e"), "--app", filepath.Join(w.bin, "app"), "--bin", w.tools()}
	for _, a := range archives {
		args = append(args, "--image", a)
	}
	_, err := w.command(ctx, filepath.Join(w.bin, "ctl"), args...)
	return err
}

// install runs the command that a user would run.
func (w *world) install(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(w.tmp, "values.yaml"), []byte(providers), 0o600); err != nil {
		return err
	}
	out, err := w.pilotfish(ctx, w.installation(tag)...)
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, out, w.state(ctx))
	}
	return nil
}

// installation is the command line that installs a version.
func (w *world) installation(tag string) []string {
	return []string{"install", "--timeout=3m", "--set", "tag=" + tag, "--set", "imagePullPolicy=Never",
		"--values", filepath.Join(w.tmp, "values.yaml"), "--gateway-set", "service.type=ClusterIP"}
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
	name := w.tool("kubectl")
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
