package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func (n *Node) logFile(name string) string { return n.path("log", name+".log") }

// call asks the node's supervisor.
func (n *Node) call(ctx context.Context, method, path string, body io.Reader) (string, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.path("control.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, body)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

// Stop kills one of the node's processes, such as kubelet, and returns when it
// has gone. Containers outlive containerd and kubelet, as on any node.
func (n *Node) Stop(ctx context.Context, process string) error {
	_, err := n.call(ctx, http.MethodPost, "/stop/"+process, nil)
	return err
}

// Start starts a stopped process and returns when it is ready.
func (n *Node) Start(ctx context.Context, process string) error {
	_, err := n.call(ctx, http.MethodPost, "/start/"+process, nil)
	return err
}

// Run runs a command of this machine inside of the node's namespaces and
// returns what it printed.
func (n *Node) Run(ctx context.Context, argv ...string) (string, error) {
	body, err := json.Marshal(argv)
	if err != nil {
		return "", err
	}
	return n.call(ctx, http.MethodPost, "/run", bytes.NewReader(body))
}

// KillContainers kills the containers of a name, in whatever pods, without
// asking the API server, and returns how many there were.
func (n *Node) KillContainers(ctx context.Context, name string) (int, error) {
	ctr := func(args ...string) (string, error) {
		return n.Run(ctx, append([]string{"ctr", "--address", runtimeSock, "-n", "k8s.io"}, args...)...)
	}
	found, err := ctr("containers", "ls", "-q", `labels."io.kubernetes.container.name"==`+name)
	if err != nil {
		return 0, err
	}
	killed := 0
	for _, id := range strings.Fields(found) {
		if _, err := ctr("tasks", "kill", "-s", "SIGKILL", id); err == nil { // else it has ended already
			killed++
		}
	}
	return killed, nil
}

// Load gives the node the images of docker archives.
func (n *Node) Load(ctx context.Context, archives ...string) error {
	for _, a := range archives {
		a, err := filepath.Abs(a)
		if err != nil {
			return err
		}
		if _, err := n.Run(ctx, "ctr", "--address", runtimeSock, "-n", "k8s.io", "images", "import", a); err != nil {
			return fmt.Errorf("load %s: %w", a, err)
		}
	}
	return nil
}

// Logs returns the last lines of each process that are errors, for a person
// who wants to know why something does not work.
func (n *Node) Logs() string {
	const lines = 15
	var b strings.Builder
	for _, p := range processes {
		text, err := os.ReadFile(n.logFile(p.name))
		if err != nil {
			continue
		}
		var bad []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "I") && !strings.HasPrefix(line, "W") && !strings.HasPrefix(line, `{"level":"warn"`) {
				bad = append(bad, line)
			}
		}
		fmt.Fprintf(&b, "== %s\n%s", p.name, strings.Join(bad[max(0, len(bad)-lines):], ""))
	}
	return b.String()
}
