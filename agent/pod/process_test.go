package pod_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// findEnvoy returns the Envoy that is a child of this process.
func findEnvoy() (int, error) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) || fields[0] == "Z" {
			continue
		}
		dir := filepath.Dir(f)
		if cmd, _ := os.ReadFile(filepath.Join(dir, "cmdline")); strings.HasPrefix(string(cmd), "envoy\x00") {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, errors.New("no Envoy is running")
}

func envoyPID(t *testing.T) int {
	t.Helper()
	pid, err := findEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func killProcess(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
