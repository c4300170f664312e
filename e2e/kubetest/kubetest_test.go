package kubetest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// TestServer checks what other tests rely on: objects with status, CRDs, a
// restart that keeps port and data, and that nothing stays behind.
func TestServer(t *testing.T) {
	var kubeconfig string
	t.Run("use", func(t *testing.T) {
		s := kubetest.Start(t)
		kubeconfig = s.Kubeconfig()
		host := s.Config().Host
		if c, err := clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil || c.Host != host {
			t.Fatalf("kubeconfig: %v, host %v, want %s", err, c, host)
		}
		c := s.Client(t)
		c.InstallCRDs(t)
		c.Apply(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {containers: [{name: a, image: a}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
`)
		s.Stop(t)
		pods := c.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "shop")
		if _, err := pods.Get(t.Context(), "a", metav1.GetOptions{}); err == nil {
			t.Fatal("the stopped server answered")
		}
		s.Restart(t)
		if got := s.Config().Host; got != host {
			t.Fatalf("restarted at %s, want %s", got, host)
		}
		pod, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if ip := pod.Object["status"].(map[string]any)["podIP"]; ip != "10.0.0.1" {
			t.Fatalf("podIP is %v after the restart", ip)
		}
	})
	if kubeconfig == "" {
		t.Skip("the server could not run")
	}
	if _, err := os.Stat(filepath.Dir(kubeconfig)); !os.IsNotExist(err) {
		t.Errorf("the server's folder is left behind: %v", err)
	}
}

// TestKilledTestLeavesNoProcess kills a test binary that holds a Server.
func TestKilledTestLeavesNoProcess(t *testing.T) {
	if os.Getenv("KUBETEST_HOLD") != "" {
		s := kubetest.Start(t)
		if err := os.WriteFile(os.Getenv("KUBETEST_HOLD"), []byte(s.Kubeconfig()), 0o600); err != nil {
			t.Fatal(err)
		}
		<-t.Context().Done() // never: the parent kills this process
	}
	for name, sig := range map[string]os.Signal{"kill": os.Kill, "interrupt": os.Interrupt} {
		t.Run(name, func(t *testing.T) { killHolder(t, sig) })
	}
}

func killHolder(t *testing.T, sig os.Signal) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestKilledTestLeavesNoProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "KUBETEST_HOLD="+file)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()

	dir := waitForFile(t, file, ended, &out)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if len(holdersOf(t, dir)) == 0 {
		t.Fatal("found no process of the running server: the check below would prove nothing")
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-ended
	deadline := time.Now().Add(20 * time.Second)
	for len(holdersOf(t, dir)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v outlived the test", holdersOf(t, dir))
		}
		waitTick(t.Context())
	}
	if _, err := os.Stat(dir); sig == os.Interrupt && !os.IsNotExist(err) {
		t.Errorf("the interrupted test left its folder: %v", err)
	}
}

// waitForFile returns the folder that the held server's kubeconfig is in.
func waitForFile(t *testing.T, file string, ended <-chan struct{}, out *strings.Builder) string {
	t.Helper()
	for {
		if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
			return filepath.Dir(string(text))
		}
		select {
		case <-ended:
			if strings.Contains(out.String(), "--- SKIP") {
				t.Skip("no binaries")
			}
			t.Fatalf("the child ended:\n%s", out)
		default:
			waitTick(t.Context())
		}
	}
}

// holdersOf lists the processes whose command line names dir.
func holdersOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Skip("needs /proc")
	}
	var out []string
	for _, f := range all {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), dir) {
			out = append(out, f)
		}
	}
	return out
}

// waitTick paces a poll.
func waitTick(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	<-ctx.Done()
}
