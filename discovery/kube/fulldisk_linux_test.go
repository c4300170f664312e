package kube_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// ownMounts is set for the process that runs a test in a mount namespace of its
// own.
const ownMounts = "PILOTFISH_TEST_OWN_MOUNTS"

// TestFullDisk runs on a file system that is full: the last file stays as it is,
// what is served goes on, and the state is saved again when there is room.
func TestFullDisk(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	dir := t.TempDir()
	if err := errors.Join(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("pilotfish-test", dir, "tmpfs", 0, "size=256k")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s, c := cluster(t)
	apply(t, c, savedObjects)
	file := filepath.Join(dir, "view")
	w := watchWith(t, s.Config(), kube.Options{Saved: file, SavePace: 20 * time.Millisecond})
	w.synced(t)
	var before []byte
	envoytest.Eventually(t, patience, func() string {
		var err error
		if before, err = os.ReadFile(file); err != nil {
			return err.Error()
		}
		return ""
	})
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	apply(t, c, "{apiVersion: v1, kind: Service, metadata: {name: late, namespace: saved}, spec: {ports: [{name: http, port: 80}]}}")
	w.logged(t, "the state cannot be saved: the file is as old as it was", 1)
	if _, ok := w.store.Mesh().Services.Get("saved", "late.saved.svc.cluster.local"); !ok {
		t.Error("the change is not served")
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the last file is not as it was (%v)", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.logged(t, "the state is saved again", 1)
	if after, err := os.ReadFile(file); err != nil || bytes.Equal(before, after) {
		t.Errorf("the file does not hold the change (%v)", err)
	}
}

// fill writes a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

// inOwnMounts runs the test in a process whose mounts nobody else sees.
func inOwnMounts(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("a file system of a given size needs root")
		}
		t.Skip("a file system of a given size needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
		t.Errorf("%v\n%s", err, out)
	}
}
