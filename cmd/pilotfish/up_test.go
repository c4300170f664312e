package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func inModes(t *testing.T, f func(t *testing.T, mode string)) {
	t.Run("netns", func(t *testing.T) {
		if err := up.CanUseNamespaces(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("needs root: %v", err)
			}
			t.Skipf("needs root: %v", err)
		}
		f(t, "netns")
	})
	t.Run("loopback", func(t *testing.T) { f(t, "loopback") })
}

func startUp(t *testing.T, args ...string) *command {
	t.Helper()
	c := startCommand(t, []string{"ENVOY=" + envoytest.Binary(t)}, append([]string{"up"}, args...)...)
	c.waitReady(t)
	return c
}

func (c *command) waitReady(t *testing.T) {
	t.Helper()
	envoytest.Eventually(t, 60*time.Second, func() string {
		select {
		case <-c.exited:
			t.Fatalf("ended: %s", c.output())
		default:
		}
		if !strings.Contains(c.output(), "ready; Ctrl-C stops it") {
			return "not ready: " + c.output()
		}
		return ""
	})
}

var gatewayLine = regexp.MustCompile(`port 80 .*: (http://127\.0\.0\.1:\d+)`)

func gatewayURL(t *testing.T, c *command) string {
	t.Helper()
	m := gatewayLine.FindStringSubmatch(c.output())
	if m == nil {
		t.Fatal("no gateway's address")
	}
	return m[1]
}

// proc is a process as /proc shows it.
type proc struct {
	pid, parent int
	started     string // in ticks since boot: tells a reused pid
	state       string // one letter of proc_pid_stat(5)
	args        string
	netns       string // its number, which the kernel gives again
}

func (p proc) String() string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
	return fmt.Sprintf("%d (%s, state %s, child of %d) %s", p.pid, strings.TrimSpace(string(name)), p.state, p.parent, p.args)
}

// namespace is the network namespace of a process by its cookie, which the kernel never gives twice
// (SO_NETNS_COOKIE of socket(7)). It is 0 when the process has none any more.
func (p proc) namespace() (cookie uint64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			return
		}
		defer home.Close()
		ns, err := netns.GetFromPid(p.pid)
		if err != nil {
			return
		}
		defer ns.Close()
		if netns.Set(ns) != nil {
			return
		}
		defer func() {
			if netns.Set(home) == nil { // otherwise the thread ends, locked, with the goroutine
				runtime.UnlockOSThread()
			}
		}()
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer func() { _ = unix.Close(s) }()
		cookie, _ = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	}()
	<-done
	return cookie
}

func processes() map[int]proc {
	out := map[int]proc{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
		f := strings.Fields(rest)
		if len(f) < 20 || f[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(f[1])
		args, _ := os.ReadFile(dir + "/cmdline")
		ns, _ := os.Readlink(dir + "/ns/net")
		out[pid] = proc{pid, parent, f[19], f[0], strings.ReplaceAll(string(args), "\x00", " "), ns}
	}
	return out
}

// traces are what a running mesh has brought into the machine.
type traces struct {
	children   []proc
	dir        string
	namespaces map[string]uint64 // network namespaces of the pods: number to cookie
}

func tracesOf(t *testing.T, pid int) traces {
	t.Helper()
	tr := traces{namespaces: map[string]uint64{}}
	// Not the command's: its first thread may be in a pod's just now.
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes() {
		if p.parent != pid {
			continue
		}
		tr.children = append(tr.children, p)
		if _, dir, ok := strings.Cut(p.args, "up-reaper "); ok {
			tr.dir = strings.TrimSpace(dir)
		}
		if p.netns == own || tr.namespaces[p.netns] != 0 {
			continue
		}
		cookie := p.namespace()
		if cookie == 0 {
			t.Fatalf("no network namespace of %v", p)
		}
		tr.namespaces[p.netns] = cookie
	}
	if tr.dir == "" || len(tr.children) < 6 { // 3 Envoys, 2 applications, 1 reaper
		t.Fatalf("a mesh of 3 pods has children %v", tr.children)
	}
	return tr
}

// remaining says what is left of them, or "".
func (tr *traces) remaining() string {
	now := processes()
	for _, c := range tr.children {
		if p, ok := now[c.pid]; ok && p.started == c.started {
			return "process: " + p.String()
		}
	}
	for _, p := range now {
		if cookie, ok := tr.namespaces[p.netns]; ok && p.namespace() == cookie {
			return "namespace held by: " + p.String()
		}
	}
	if _, err := os.Stat(tr.dir); !os.IsNotExist(err) {
		return "files: " + tr.dir
	}
	return ""
}

// machine is what of the machine a mesh must not touch.
func machine(t *testing.T) string {
	t.Helper()
	var out []string
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Name == "mesh" || strings.HasPrefix(i.Name, "pod") {
			out = append(out, "device "+i.Name)
		}
	}
	if c, err := nftables.New(); err == nil {
		tables, _ := c.ListTables()
		for _, table := range tables {
			if table.Name == "pilotfish" {
				out = append(out, "table "+table.Name)
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestUpLeavesNothingBehind(t *testing.T) {
	inModes(t, func(t *testing.T, mode string) {
		for _, s := range []struct {
			signal syscall.Signal
			code   int
			whole  bool // signal the whole group, as a terminal does
		}{
			{syscall.SIGINT, exitOK, true},
			{syscall.SIGTERM, exitOK, false},
			{syscall.SIGKILL, -1, false},
			{syscall.SIGKILL, -1, true},
		} {
			t.Run(fmt.Sprintf("%v group=%v", s.signal, s.whole), func(t *testing.T) {
				c := startUp(t, "../../examples/canary", "--mode", mode, "--load")
				tr := tracesOf(t, c.cmd.Process.Pid)
				if mode == "netns" && len(tr.namespaces) != 3 {
					t.Errorf("3 pods have %d namespaces", len(tr.namespaces))
				}
				if touched := machine(t); touched != "" {
					t.Errorf("the machine itself has %s", touched)
				}
				to := c.cmd.Process.Pid
				if s.whole {
					to = -to
				}
				if err := syscall.Kill(to, s.signal); err != nil {
					t.Fatal(err)
				}
				if code := c.wait(t, 20*time.Second); code != s.code {
					t.Errorf("exit code %d, want %d", code, s.code)
				}
				envoytest.Eventually(t, 30*time.Second, tr.remaining)
			})
		}
	})
}

// Stopping while it starts leaves nothing either.
func TestUpIsStoppedWhileStarting(t *testing.T) {
	inModes(t, func(t *testing.T, mode string) {
		c := startCommand(t, []string{"ENVOY=" + envoytest.Binary(t)}, "up", "../../examples/canary", "--mode", mode)
		var children []proc
		envoytest.Eventually(t, 30*time.Second, func() string {
			children = nil
			for _, p := range processes() {
				if p.parent == c.cmd.Process.Pid {
					children = append(children, p)
				}
			}
			if len(children) < 3 {
				return "no children yet"
			}
			return ""
		})
		_ = c.cmd.Process.Signal(syscall.SIGINT)
		if code := c.wait(t, 20*time.Second); code != exitOK {
			t.Errorf("exit code %d", code)
		}
		tr := traces{children: children, dir: filepath.Join(t.TempDir(), "none")}
		envoytest.Eventually(t, 30*time.Second, tr.remaining)
	})
}

func TestUpServesItsPage(t *testing.T) {
	c := startUp(t, "../../examples/canary", "--mode", "loopback", "--load")
	url := ""
	for line := range strings.Lines(c.output()) {
		if strings.HasPrefix(line, "http://127.0.0.1:") {
			if url != "" {
				t.Error("more than one URL on the standard output")
			}
			url = strings.TrimSpace(line)
		}
	}
	if code, body := page(t, url); code != 200 || !strings.Contains(body, "<html") {
		t.Errorf("the page: %d %.200s", code, body)
	}
	envoytest.Eventually(t, 20*time.Second, func() string {
		_, body := page(t, url+"api/state")
		for _, want := range []string{`"title":"canary"`, `"SYNCED"`, `default/myapp-v1`, `default/myapp-v2`} {
			if !strings.Contains(body, want) {
				return fmt.Sprintf("no %s in %s", want, body)
			}
		}
		return ""
	})
	// A site whose name was made to resolve to this machine is told nothing.
	for _, path := range []string{"", "api/state", "debug/syncz", "metrics"} {
		req, err := http.NewRequest(http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "rebound.example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("/%s for another host: %s, want 421", path, resp.Status)
		}
	}
	_, body := page(t, url+"debug/syncz")
	if n := strings.Count(body, `"sync":"SYNCED"`); n < 3 {
		t.Errorf("/debug/syncz: %s", body)
	}
	for _, id := range []string{"istio-ingressgateway", "myapp-v1"} {
		i := strings.Index(body, "~"+id)
		name, _, _ := strings.Cut(body[i+1:], "~")
		code, dump := page(t, url+"debug/config_dump?proxyID="+name)
		if code != 200 || !strings.Contains(dump, "outbound|80|v1|myapp.default.svc.cluster.local") {
			t.Errorf("/debug/config_dump of %s: %d %.300s", name, code, dump)
		}
		if code, ads := page(t, url+"debug/adsz?proxyID="+name); code != 200 || !strings.Contains(ads, `"totalClients":1`) {
			t.Errorf("/debug/adsz of %s: %d %s", name, code, ads)
		}
	}
}

func TestUpSaysThatAPortIsInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	code, _, stderr := run("up", "../../examples/canary", "--envoy", envoytest.Binary(t), "--http-address", addr)
	want := fmt.Sprintf("pilotfish: --http-address %s: another process listens on this address; choose another one, or port 0 for any\n", addr)
	if code != exitFailure || stderr != want {
		t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
	}
}

// An Envoy that does not start is one error with what it said last.
func TestUpWithAnEnvoyThatDoesNotStart(t *testing.T) {
	fake := filepath.Join(t.TempDir(), "envoy")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'envoy version: 0/1.40.0'; exit 0; }\necho 'no such luck' >&2\nexit 7\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run("up", "../../examples/canary", "--envoy", fake, "--mode", "loopback")
	if code != exitFailure || !strings.Contains(stderr, "pilotfish: Envoy of default/") ||
		!strings.Contains(stderr, "ended (exit status 7); it said last:\n  no such luck") {
		t.Errorf("exit code %d, said %s", code, stderr)
	}
}

func TestUpWithoutWorkloads(t *testing.T) {
	dir := t.TempDir()
	code, _, stderr := run("up", dir, "--envoy", envoytest.Binary(t), "--mode", "loopback")
	want := "pilotfish: [" + dir + "]: no workload in it: want a Deployment, a Pod, a WorkloadEntry or a Gateway\n"
	if code != exitFailure || stderr != want {
		t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
	}
}

// YAML that breaks while the mesh runs is told with file and line, and the
// last good version goes on.
func TestUpKeepsGoingOnBrokenYAML(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	c := startUp(t, dir, "--mode", "loopback")
	url := gatewayURL(t, c)
	file := filepath.Join(dir, "myapp.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(good), "weight: 70", "weight: seventy", 1)
	if err := os.WriteFile(file, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	line := strings.Count(broken[:strings.Index(broken, "seventy")], "\n") + 1
	envoytest.Eventually(t, 10*time.Second, func() string {
		if !strings.Contains(c.output(), fmt.Sprintf("%s:%d: error: VirtualService default/myapp-virtualservice: ", file, line)) {
			return "not told: " + c.output()
		}
		return ""
	})
	for range 50 {
		resp, err := http.Get(url) //nolint:gosec // a test's own address
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("answered %s", resp.Status)
		}
	}
}

// An Envoy that dies is told and started again.
func TestUpStartsADeadEnvoyAgain(t *testing.T) {
	c := startUp(t, "../../examples/canary", "--mode", "loopback")
	url := gatewayURL(t, c)
	killed := 0
	for _, p := range processes() {
		if p.parent == c.cmd.Process.Pid && strings.HasPrefix(p.args, "envoy ") && strings.Contains(p.args, "ingressgateway") {
			killed = p.pid
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	if killed == 0 {
		t.Fatal("no Envoy of the gateway")
	}
	envoytest.Eventually(t, 20*time.Second, func() string {
		if !strings.Contains(c.output(), "starting it again in 100ms") {
			return "not told: " + c.output()
		}
		resp, err := http.Get(url) //nolint:gosec // a test's own address
		if err != nil {
			return err.Error()
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		return ""
	})
}

// Without root, and so without ports below 1024, the same folder works.
func TestUpWithoutRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "up") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.CopyFS(filepath.Join(dir, "canary"), os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	copyFile(t, envoytest.Binary(t), filepath.Join(dir, "envoy"))
	copyFile(t, "/proc/self/exe", filepath.Join(dir, "pilotfish"))
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &command{cmd: exec.Command(filepath.Join(dir, "pilotfish"), "up", "canary", "--envoy", "./envoy"), exited: make(chan struct{})}
	c.cmd.Dir = dir
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	c.start(t, nil)
	c.waitReady(t)
	if !strings.Contains(c.output(), "all pods share the loopback range") {
		t.Error("it does not say how it keeps pods apart")
	}
	for range 20 {
		if code, body := page(t, gatewayURL(t, c)); code != http.StatusOK {
			t.Fatalf("answered %d %s", code, body)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// The page moves a weight: it writes the YAML, and the traffic follows.
func TestUpPageMovesWeights(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../examples/canary")); err != nil {
		t.Fatal(err)
	}
	c := startUp(t, dir, "--mode", "loopback", "--load=100")
	url := pageURL(c)
	var state struct {
		Routes struct{ Routes []struct{ ID string } }
	}
	envoytest.Eventually(t, 10*time.Second, func() string {
		_, body := page(t, url+"api/state")
		if err := json.Unmarshal([]byte(body), &state); err != nil || len(state.Routes.Routes) != 1 {
			return "not one route: " + body
		}
		return ""
	})
	edit := fmt.Sprintf(`{"route": %q, "seen": [70, 30], "weights": [0, 100]}`, state.Routes.Routes[0].ID)
	resp, err := http.Post(url+"api/weights", "application/json", strings.NewReader(edit))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("answered %s: %s", resp.Status, answer)
	}
	written, err := os.ReadFile(filepath.Join(dir, "myapp.yaml"))
	if err != nil || !strings.Contains(string(written), "weight: 100") {
		t.Errorf("the file holds no weight 100 (%v):\n%s", err, written)
	}
	envoytest.Eventually(t, 10*time.Second, func() string {
		for range 20 {
			if _, body := page(t, gatewayURL(t, c)); !strings.Contains(body, `"version":"v2"`) {
				return "still answered by " + body
			}
		}
		return ""
	})
	if _, body := page(t, url+"api/state"); strings.Contains(body, `"error":`) {
		t.Errorf("requests failed: %s", body)
	}
}

func pageURL(c *command) string {
	for line := range strings.Lines(c.output()) {
		if strings.HasPrefix(line, "http://127.0.0.1:") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
