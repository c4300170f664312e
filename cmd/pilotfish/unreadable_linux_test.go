package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Files and folders that the user must not read are named, and the rest is
// reported. Root may read everything, so that somebody else does the reading.
func TestNoPermission(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"good.yaml": 0o644, "closed.yaml": 0, "closed_test.yaml": 0, "good_test.yaml": 0o644, "closed/good.yaml": 0o644, "overlay/kustomization.yaml": 0,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [a.example.com], htp: []}\n"
		if strings.HasSuffix(name, "_test.yaml") {
			text = "tests: [{name: reached, from: {plain: true, namespace: a}, request: {url: 'http://b/'}, expect: {status: 200}}]\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o755) })
	for d := dir; d != "/" && os.Geteuid() == 0; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err == nil && info.Mode()&0o001 == 0 && strings.HasPrefix(d, os.TempDir()+"/") {
			if err := os.Chmod(d, info.Mode()|0o055); err != nil {
				t.Fatal(err)
			}
		}
	}
	const field = `good.yaml:4:32: error: VirtualService default/v: spec.htp: unknown field "htp": did you mean "http"? (UnknownField`
	for _, c := range []struct {
		args string
		says []string
	}{
		{"lint .", []string{field, "closed.yaml: error: cannot be read: permission denied (Unreadable)", "closed: error: cannot be read: permission denied (Unreadable)"}},
		{"lint . -o github", []string{"::error file=closed,line=1,title=Unreadable::cannot be read: permission denied"}},
		{"lint closed good.yaml", []string{field, "closed: error: cannot be read: permission denied (Unreadable)"}},
		{"lint closed/good.yaml", []string{"stat closed/good.yaml: permission denied"}},
		{"lint overlay good.yaml", []string{field, "overlay/kustomization.yaml: error: kustomize overlay: cannot be read: permission denied (InputFailed)"}},
		{"ask --config . --from a.b http://c/", []string{field, "closed.yaml: error: cannot be read: permission denied (Unreadable)", "closed: error: cannot"}},
		{"test .", []string{"closed_test.yaml: error: cannot be read: permission denied (Unreadable)", "closed: error: cannot", "reached"}},
		{"diff good.yaml closed", []string{"closed: error: cannot be read: permission denied (Unreadable)"}},
		{"replay closed.yaml --old . --new .", []string{"open closed.yaml: permission denied"}},
	} {
		cmd := exec.Command("/proc/self/exe", strings.Fields(c.args)...) // whose folder others may not enter
		cmd.Dir, cmd.Env = dir, append(os.Environ(), asCommand+"=1")
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if cmd.ProcessState.ExitCode() != exitUsage {
			t.Errorf("%s: exit code %d", c.args, cmd.ProcessState.ExitCode())
		}
		for _, part := range c.says {
			if !strings.Contains(string(out), part) {
				t.Errorf("%s: no %q in\n%s", c.args, part, out)
			}
		}
	}
}
