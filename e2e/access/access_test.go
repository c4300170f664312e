package access

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

// request is one request, or connection, and what becomes of it. A zero field
// means the usual.
type request struct {
	from   string // default/friend
	port   int    // 8080
	method string // GET
	path   string // /
	host   string // web
	header string // "Name: value", any number of lines
	// bytes is sent instead of a request, to port 9000.
	bytes string
	// want is ok, denied (403), unauthenticated (401), closed (the connection),
	// or another status.
	want string
}

const (
	ok              = "200"
	badRequest      = "400"
	tooLarge        = "431"
	denied          = "403"
	unauthenticated = "401"
	closed          = "closed"
)

func (r request) String() string {
	var parts []string
	for _, p := range []string{r.from, r.method, r.host, r.path, r.header, r.bytes} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if r.port != 0 {
		parts = append(parts, fmt.Sprint(":", r.port))
	}
	return strings.Join(parts, " ")
}

// theme is a policy with requests.
type theme struct {
	name     string
	policy   string // YAML
	requests []request
}

// world is a running mesh.
type world struct {
	*stage.Stage
	t   *testing.T
	web string // the address of its pod
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Stage: stage.StartWith(t, stage.Copy(t, "testdata"), up.Options{Mode: up.Loopback, InternalKeys: true}), t: t}
	for _, x := range w.Workloads() {
		if x.Name == "web" {
			w.web = x.Pods[0].Address
		}
	}
	return w
}

// decide applies each policy and has the Envoys decide.
func (w *world) decide(themes []theme) {
	for _, th := range themes {
		w.t.Run(th.name, func(t *testing.T) {
			if th.policy != "" {
				w.Delivered(func() { w.Write("policy.yaml", th.policy) })
			}
			for i, r := range th.requests {
				// The first one waits: a listener that was acknowledged takes a
				// moment to replace the one before.
				if i == 0 {
					envoytest.Eventually(t, stage.Patience, func() string { return w.differs(r) })
				} else if wrong := w.differs(r); wrong != "" {
					envoytest.Eventually(t, 2*time.Second, func() string { return w.differs(r) })
				}
			}
		})
	}
}

func (w *world) differs(r request) string {
	if got := w.outcome(r); got != r.want {
		return fmt.Sprintf("%v: %s, want %s", r, got, r.want)
	}
	return ""
}

// outcome sends a request by a connection of its own.
func (w *world) outcome(r request) string {
	ctx, cancel := context.WithTimeout(context.Background(), stage.Patience)
	defer cancel()
	from, host := "default/friend", "web"
	if r.from != "" {
		from = r.from
	}
	if from == "other/guest" {
		host = "web.default"
	}
	if r.host != "" {
		host = r.host
	}
	port := 8080
	if r.bytes != "" {
		port = 9000
	}
	if r.port != 0 {
		port = r.port
	}
	dial, err := w.Dialer(from)
	if err != nil {
		return err.Error()
	}
	to := "web"
	if from == "default/plain" {
		to = w.web
	}
	c, err := dial(ctx, "tcp", net.JoinHostPort(to, fmt.Sprint(port)))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(stage.Patience)); err != nil {
		return err.Error()
	}
	if r.bytes != "" {
		return exchange(c, r.bytes)
	}
	method, path := "GET", "/"
	if r.method != "" {
		method = r.method
	}
	if r.path != "" {
		path = r.path
	}
	header := ""
	if r.header != "" {
		header = strings.ReplaceAll(r.header, "\n", "\r\n") + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", method, path, host, header); err != nil && r.want != tooLarge { // which is said while the request is still being written
		return closed
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return closed
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return fmt.Sprint(resp.StatusCode)
}

// exchange is ok if the application answers bytes.
func exchange(c net.Conn, bytes string) string {
	if _, err := io.WriteString(c, bytes+"\n"); err != nil {
		return closed
	}
	b := make([]byte, 1)
	_, err := io.ReadFull(c, b)
	var timeout net.Error
	switch {
	case err == nil:
		return ok
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return closed
}

// policy is an AuthorizationPolicy for web.
func policy(action, rules string) string {
	return named("p", action, rules)
}

func named(name, action, rules string) string {
	return `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ` + name + `, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  action: ` + action + `
  rules: ` + rules + "\n"
}
