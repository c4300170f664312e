package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// Missing says what this machine lacks to run a node; nil if nothing.
func (n *Node) Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root")
	}
	var missing []string
	for command, pkg := range map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "iptables": "iptables", "conntrack": "conntrack",
	} {
		if _, err := exec.LookPath(command); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian: %s)", command, pkg))
		}
	}
	if cniPlugins() == "" {
		missing = append(missing, "the CNI plugins (Debian: containernetworking-plugins)")
	}
	for _, p := range processes {
		if file := n.argv(p, "")[0]; filepath.IsAbs(file) {
			if _, err := os.Stat(file); err != nil {
				missing = append(missing, file+" (make cluster-binaries)")
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s", strings.Join(missing, ", "))
	}
	return nil
}

// Up starts the node unless it is up, gives it the pause image and the images
// of the archives, and returns when pods can run on it. pause writes an archive of
// PauseImage to a path in the node's folder, which goes with the node. self is the
// program that answers to init and supervise (package ctl). Progress goes to w.
func (n *Node) Up(ctx context.Context, self string, w io.Writer, pause func(to string) error, archives ...string) error {
	if err := n.Missing(); err != nil {
		return err
	}
	if _, err := n.call(ctx, "GET", "/ready", nil); err == nil {
		_, _ = fmt.Fprintln(w, "the node is up already")
		return n.Load(ctx, archives...)
	}
	if err := n.Down(ctx); err != nil { // what a node that died has left
		return fmt.Errorf("clean up before the start: %w", err)
	}
	if err := n.start(ctx, self, w, pause, archives); err != nil {
		err = fmt.Errorf("%w\n%s", err, n.Logs())
		return errors.Join(err, n.Down(context.WithoutCancel(ctx)))
	}
	return nil
}

func (n *Node) start(ctx context.Context, self string, w io.Writer, pause func(to string) error, archives []string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startTimeout)
	defer cancel()
	at, err := freeLink()
	if err != nil {
		return err
	}
	for _, dir := range []string{"pki", "etc/cni", "lib", "log", "etcd"} {
		if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := n.writeCredentials(at.node.Addr()); err != nil {
		return err
	}
	for name, text := range settings {
		if err := os.WriteFile(n.path("etc", name), []byte(n.expand(text, at.node.Addr().String())), 0o600); err != nil {
			return err
		}
	}
	if err := makeCgroups(n.cgroup()); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "starting the node's processes")
	if err := n.launch(self, at); err != nil {
		return err
	}
	if err := n.await(ctx, "the node's processes", func(ctx context.Context) error {
		if !n.alive() {
			text, _ := os.ReadFile(n.logFile("node"))
			return stop{fmt.Errorf("the node has ended: %s", text)}
		}
		_, err := n.call(ctx, "GET", "/ready", nil)
		return err
	}); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "loading images")
	sandbox := n.path("pause.tar")
	if err := pause(sandbox); err != nil {
		return err
	}
	defer func() { _ = os.Remove(sandbox) }()
	if err := n.Load(ctx, append([]string{sandbox}, archives...)...); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "waiting until pods can run")
	return n.prepare(ctx)
}

// launch starts the node's first process, which outlives this program.
func (n *Node) launch(self string, at link) error {
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = network.Close() }()
	log, err := os.OpenFile(n.logFile("node"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(self, "init", n.dir, n.bin, at.node.String())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{network} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	pid := cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // no zombie while this program lives
	born, err := birth(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(n.path("pid"), fmt.Appendf(nil, "%d %s\n", pid, born), 0o600)
}

// process is the node's first process, or 0 if it does not live: a pid that
// was reused by another process has another time of birth.
func (n *Node) process() int {
	text, err := os.ReadFile(n.path("pid"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text))
	if len(f) != 2 {
		return 0
	}
	pid, err := strconv.Atoi(f[0])
	if err != nil {
		return 0
	}
	if born, err := birth(pid); err != nil || born != f[1] {
		return 0
	}
	return pid
}

func (n *Node) alive() bool { return n.process() != 0 }

// birth is when a process that is no zombie started, in clock ticks since the
// machine did (proc_pid_stat(5), fields 3 and 22).
func birth(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return f[19], nil
}

// Down ends the node and removes every trace of it. It may be called for a
// node that is not there.
func (n *Node) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if pid := n.process(); pid != 0 {
		// The kernel then kills whatever is in its namespaces, and with the
		// last of it go the mounts, the network and the rules.
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if err := n.await(ctx, "the end of the node", func(context.Context) error {
		if n.alive() {
			return fmt.Errorf("process %d lives", n.process())
		}
		return nil
	}); err != nil {
		return err
	}
	if err := n.await(ctx, "removal of the node's cgroups", func(context.Context) error { return removeCgroups(n.cgroup()) }); err != nil {
		return err
	}
	if l, err := netlink.LinkByName(n.device()); err == nil {
		_ = netlink.LinkDel(l) // it may go by itself, with its peer's namespace
	}
	return n.await(ctx, "removal of "+n.dir, func(context.Context) error {
		if _, err := netlink.LinkByName(n.device()); err == nil {
			return fmt.Errorf("network device %s is there", n.device())
		}
		return os.RemoveAll(n.dir)
	})
}

// stop is an error that waiting longer does not mend.
type stop struct{ error }

// await polls f until it succeeds.
func (n *Node) await(ctx context.Context, what string, f func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if s, ok := errors.AsType[stop](err); ok {
			return s.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// hierarchies are the folders of the machine's cgroups: one of version 2, or
// several of version 1.
func hierarchies() ([]string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		return []string{root}, nil
	}
	list, err := filepath.Glob(root + "/*/cgroup.procs")
	for i := range list {
		list[i] = filepath.Dir(list[i])
	}
	return list, err
}

func makeCgroups(name string) error {
	list, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range list {
		dir = filepath.Join(dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
		// A cgroup weighs as much as one process beside it (1024 in version 1,
		// 100 in version 2), and the pods are dozens: on a busy machine they
		// would starve.
		for file, weight := range map[string]string{"cpu.shares": "32768", "cpu.weight": "3200"} {
			err := os.WriteFile(filepath.Join(dir, file), []byte(weight), 0) // the kernel has made it
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("weigh a cgroup: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups removes the cgroups of a name with those below them. It fails
// while a process is in one.
func removeCgroups(name string) error {
	list, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range list {
		var found []string
		top := filepath.Join(dir, name)
		err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return nil // what goes meanwhile is gone
		})
		if err != nil {
			return err
		}
		for i := len(found) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(found[i]); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("%s: %w", found[i], err)
			}
		}
	}
	return nil
}
