package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout bounds every wait for a process. Starts take seconds; a loaded
// machine may need many times that.
const startTimeout = 3 * time.Minute

// supervisor runs the node's processes. One that ends by itself is started
// again after a second; one that was stopped stays so.
type supervisor struct {
	node   *Node
	nodeIP string
	client *http.Client

	mu      sync.Mutex // guards running
	running map[string]*running
}

type running struct {
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended and was waited for
	stopped bool          // on purpose; guarded by supervisor.mu
}

func newSupervisor(n *Node, nodeIP string) *supervisor {
	t := &http.Transport{DisableKeepAlives: true}
	if pair, err := tls.LoadX509KeyPair(n.path("pki", "admin.crt"), n.path("pki", "admin.key")); err == nil {
		// asks a process of ours on loopback whether it is up
		t.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}
	}
	return &supervisor{node: n, nodeIP: nodeIP, client: &http.Client{Transport: t}, running: map[string]*running{}}
}

func find(name string) (process, error) {
	i := slices.IndexFunc(processes, func(p process) bool { return p.name == name })
	if i < 0 {
		return process{}, fmt.Errorf("no process is called %q", name)
	}
	return processes[i], nil
}

// start starts a process and returns when it is ready.
func (s *supervisor) start(ctx context.Context, name string) error {
	p, err := find(name)
	if err != nil {
		return err
	}
	r, err := s.launch(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = s.isReady(ctx, p); err == nil {
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("%s ended: %v; see %s", name, r.cmd.ProcessState, s.node.logFile(name))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; see %s", name, err, s.node.logFile(name))
		case <-tick.C:
		}
	}
}

// launch starts a process that does not run.
func (s *supervisor) launch(p process) (*running, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running[p.name]; r != nil && !r.stopped {
		return nil, fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(s.node.logFile(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	argv := s.node.argv(p, s.nodeIP)
	r := &running{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.Env = append(os.Environ(), "PATH="+s.node.bin+":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	s.running[p.name] = r
	go s.watch(p, r)
	return r, nil
}

func (s *supervisor) watch(p process, r *running) {
	_ = r.cmd.Wait()
	close(r.done)
	s.mu.Lock()
	again := !r.stopped
	r.stopped = true
	s.mu.Unlock()
	if again {
		time.AfterFunc(time.Second, func() { _, _ = s.launch(p) })
	}
}

// stop kills a process and returns when it has gone; nothing of a node may
// depend on a process's last words.
func (s *supervisor) stop(name string) error {
	s.mu.Lock()
	r := s.running[name]
	if r == nil || r.stopped {
		s.mu.Unlock()
		return fmt.Errorf("%s does not run", name)
	}
	r.stopped = true
	err := r.cmd.Process.Kill()
	s.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-r.done
	return nil
}

func (s *supervisor) stopAll() {
	for _, p := range slices.Backward(processes) {
		_ = s.stop(p.name)
	}
}

func (s *supervisor) isReady(ctx context.Context, p process) error {
	switch {
	case p.ready == "":
		return nil
	case strings.HasPrefix(p.ready, "/"):
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", p.ready)
		if err != nil {
			return err
		}
		return c.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// handler is the node's control socket: POST /start/NAME, /stop/NAME, and /run
// with the JSON of a command; GET /ready.
func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		for _, p := range processes {
			s.mu.Lock()
			runs := s.running[p.name] != nil && !s.running[p.name].stopped
			s.mu.Unlock()
			if !runs {
				answer(w, fmt.Errorf("%s does not run", p.name))
				return
			}
			if err := s.isReady(r.Context(), p); err != nil {
				answer(w, fmt.Errorf("%s is not ready: %w", p.name, err))
				return
			}
		}
	})
	mux.HandleFunc("POST /start/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.start(r.Context(), r.PathValue("name")))
	})
	mux.HandleFunc("POST /stop/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.stop(r.PathValue("name")))
	})
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) {
		var argv []string
		if err := json.NewDecoder(r.Body).Decode(&argv); err != nil || len(argv) == 0 {
			http.Error(w, "want a JSON list: a command and its arguments", http.StatusBadRequest)
			return
		}
		out, err := run(r.Context(), argv)
		if err != nil {
			answer(w, fmt.Errorf("%s: %w: %s", argv[0], err, out))
			return
		}
		_, _ = w.Write(out)
	})
	return mux
}
