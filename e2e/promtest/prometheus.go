// Package promtest runs real Prometheus servers for tests.
//
// It finds Debian's prometheus, and starts and stops single ones on loopback
// that scrape what a test names. Tests of every package may import it; nothing
// else does.
package promtest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startTimeout bounds the wait for readiness, which takes a second; a loaded
// machine may need many times that.
const startTimeout = 2 * time.Minute

// Server is one Prometheus.
type Server struct {
	URL  string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// Binary returns the path of a prometheus. Without one the test fails in CI
// and is skipped elsewhere.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs Debian's package prometheus: %v", err)
	}
	t.Skipf("needs Debian's package prometheus: %v", err)
	return ""
}

// Start starts a Prometheus that ends with t. It scrapes /metrics of targets,
// host:port, several times a second.
func Start(t testing.TB, targets ...string) *Server {
	t.Helper()
	return StartWith(t, fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
- job_name: test
  static_configs: [{targets: ['%s']}]
`, strings.Join(targets, "', '")))
}

// StartWith starts a Prometheus with a configuration of the test's.
func StartWith(t testing.TB, config string) *Server {
	t.Helper()
	bin, dir := Binary(t), t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// A free port may be taken by someone else before it is bound: try again.
	for attempt := 0; ; attempt++ {
		s, err := start(t.Context(), bin, dir, file)
		if err == nil {
			t.Cleanup(func() {
				s.Stop()
				if t.Failed() {
					t.Log(s.text())
				}
			})
			return s
		}
		if attempt == 2 {
			t.Fatal(err)
		}
	}
}

func start(ctx context.Context, bin, dir, file string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	s := &Server{URL: "http://" + address, done: make(chan struct{}), log: filepath.Join(dir, "log")}
	out, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	s.cmd = exec.Command(bin, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	endWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w\n%s", err, s.text())
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/-/ready", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.done:
			return fmt.Errorf("prometheus ended: %v", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("prometheus is not ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Stop ends the server. It may be called twice.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

func (s *Server) text() string {
	b, _ := os.ReadFile(s.log)
	return string(b)
}
