package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/fulldisk"
	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

// saving are processes of serve, one after the other, all of whose folders are
// on one disk.
type saving struct {
	t      *testing.T
	server *kubetest.Server
	dir    string
}

// start starts one that logs a line.
func (s *saving) start(line string) *servingReplica {
	s.t.Helper()
	args := append(append([]string{"serve"}, everywhere...), "--kubeconfig", s.server.Kubeconfig(), "--state-dir", s.dir)
	r := &servingReplica{startCommand(s.t, []string{"TMPDIR=" + s.dir, "HOME=" + s.dir}, args...), startRecorder(s.t)}
	r.says(s.t, line)
	return r
}

func (s *saving) end(r *servingReplica) {
	s.t.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if code := r.wait(s.t, drainTime); code != exitOK {
		s.t.Errorf("exit code %d after SIGTERM", code)
	}
}

// file is the saved state.
func (s *saving) file() []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "state"))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// says waits for a line of the log.
func (r *servingReplica) says(t *testing.T, line string) {
	t.Helper()
	envoytest.Eventually(t, time.Minute, func() string {
		if !strings.Contains(r.output(), line) {
			return "does not say that " + line + ": " + r.output()
		}
		return ""
	})
}

// TestServeOnAFullDisk: all that serve could write to is full from its start on.
// The mesh goes on, and changes arrive; that they are not saved is said once, and
// counted. They are saved when there is room. A file that was cut off is served
// by nobody, also while the API server is away.
func TestServeOnAFullDisk(t *testing.T) {
	fulldisk.Run(t, func(d *fulldisk.Disk) {
		s := &saving{t, kubetest.Shared(t), d.Dir}
		c := s.server.Client(t)
		c.InstallCRDs(t)
		port := envoytest.FreePort(t)
		c.Apply(t, fmt.Sprintf(handedOver, port, answering(t, "a"), answering(t, "b"))+fmt.Sprintf(routed, "a.test"))
		const ready, unsaved = "the first mesh is in service", "the state cannot be saved"
		s.end(s.start(ready)) // it leaves the file
		before := s.file()

		d.Fill()
		r := s.start(ready)
		r.open()
		startGateway(t, r)
		load := startLoad(t, port, "a")
		c.Apply(t, fmt.Sprintf(routed, "b.test"))
		envoytest.Eventually(t, time.Minute, func() string { return load.lacks("a", "b") })
		r.says(t, unsaved)
		const failures = "\npilotfish_state_save_failures_total "
		if text := r.page(t, "/metrics"); !strings.Contains(text, failures) || strings.Contains(text, failures+"0") {
			t.Error("the failure is not counted")
		}
		if !bytes.Equal(s.file(), before) {
			t.Error("the file is not as it was")
		}
		d.Free()
		r.says(t, "the state is saved again")
		if bytes.Equal(s.file(), before) {
			t.Error("the change is not in the file")
		}
		if n := strings.Count(r.output(), unsaved); n != 1 {
			t.Errorf("it is said %d times", n)
		}
		load.stop()
		if problem := load.lacks("a", "b"); problem != "" {
			t.Error(problem)
		}
		s.end(r)
		if diff := cmp.Diff([]string{"state"}, d.Files()); diff != "" {
			t.Errorf("files: %s", diff)
		}

		whole := s.file()
		if err := os.Truncate(filepath.Join(d.Dir, "state"), int64(len(whole)/2)); err != nil {
			t.Fatal(err)
		}
		d.Fill()
		s.server.Stop(t)
		r = s.start("the saved state is not used")
		if code, body := page(t, "http://"+logged(r.command, "serving readiness")+"/ready"); code != 503 {
			t.Errorf("/ready: %d %s", code, body)
		}
		s.server.Restart(t)
		r.says(t, ready)
		s.end(r)
		if !bytes.Equal(s.file(), whole[:len(whole)/2]) {
			t.Error("the file is not as it was")
		}
	})
}
