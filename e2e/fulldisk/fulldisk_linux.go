// Package fulldisk gives a test a file system that it can fill.
//
// Tests of every package may import it; nothing else does. It needs root on
// Linux: elsewhere the test is skipped, in CI it fails.
package fulldisk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Marker is set in the environment of the process that Run begins.
const Marker = "PILOTFISH_TEST_OWN_MOUNTS"

// Disk is a small file system.
type Disk struct {
	Dir string // where it is mounted

	t      *testing.T
	filler string // a folder on it
}

// Run runs the test that calls it once more, in a process whose mounts nobody
// else sees, and there f with an empty file system of 256 KiB and 64 files. To
// be called by a top-level test, as all that it does.
func Run(t *testing.T, f func(d *Disk)) {
	t.Helper()
	if os.Getenv(Marker) != "" {
		mounted(t, f)
		return
	}
	if os.Getuid() != 0 {
		const reason = "a file system of a given size needs root"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), Marker+"=1")
	// If this process dies, so does that one, and its mounts with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
}

func mounted(t *testing.T, f func(d *Disk)) {
	d := &Disk{Dir: t.TempDir(), t: t}
	d.filler = filepath.Join(d.Dir, "filler")
	if err := errors.Join(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("pilotfish-test", d.Dir, "tmpfs", 0, "size=256k,nr_inodes=64,mode=1777")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.Dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f(d)
}

// Fill leaves no room on the disk, neither for a byte nor for a file.
func (d *Disk) Fill() {
	d.t.Helper()
	d.FillBytes()
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(d.filler, strconv.Itoa(n)), nil, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// FillBytes leaves no room for a byte, but for empty files.
func (d *Disk) FillBytes() {
	d.t.Helper()
	if err := os.MkdirAll(d.filler, 0o700); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d.filler, "bytes"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("the disk is not full: %v", err)
	}
}

// Free makes room again.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.RemoveAll(d.filler); err != nil {
		d.t.Fatal(err)
	}
}

// Files are those on the disk, besides what fills it.
func (d *Disk) Files() []string {
	d.t.Helper()
	all, err := os.ReadDir(d.Dir)
	if err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		if f.Name() != filepath.Base(d.filler) {
			out = append(out, f.Name())
		}
	}
	return out
}
