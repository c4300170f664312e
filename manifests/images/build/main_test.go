package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// asCommand has the test's binary be the command.
const asCommand = "PILOTFISH_TEST_IMAGES"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A build that is killed while it writes leaves no half of an image under its
// name, and the next one leaves nothing of it.
func TestKilledBuild(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, large := filepath.Join(dir, "out"), filepath.Join(dir, "large")
	noise := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it takes a while to be compressed
	if err := os.WriteFile(large, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	command := func() *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		t.Cleanup(cancel)
		cmd := exec.CommandContext(ctx, self, "-pilotfish", large, "-agent", large, "-app", self, "-envoy", self, "-out", out)
		cmd.Env = append(os.Environ(), asCommand+"=1")
		return cmd
	}
	found := func(pattern string) []string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(out, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	first := command()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	tick, patience := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for len(found(".image-*")) == 0 {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal("it writes nothing")
		}
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	if got := found("*.tar"); len(found(".image-*")) != 1 || len(got) > 0 {
		t.Fatalf("it was not killed while it wrote: %v %v", found(".image-*"), got)
	}
	if text, err := command().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if left := found(".image-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := found("*.tar"); len(got) != 4 {
		t.Errorf("images %v, want 4", got)
	}
}
