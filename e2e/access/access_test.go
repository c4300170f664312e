package access

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
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
	body   string
	// bytes is sent instead of a request, to port 9000.
	bytes string
	// seen is a text in the answer: in its headers ("x-name: value") or in what
	// the application was sent, which is there as JSON. unseen is a text that
	// is in neither.
	seen, unseen string
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
		if len(p) > 300 {
			p = p[:300] + "…"
		}
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
	t       *testing.T
	gateway string // its address, where requests go if it is not empty
}

func start(t *testing.T) *world {
	t.Helper()
	return &world{Stage: stage.StartWith(t, stage.Copy(t, "testdata/mesh"), up.Options{Mode: up.Loopback, InternalKeys: true}), t: t}
}

// startGateway is a mesh that requests enter by a gateway.
func startGateway(t *testing.T) *world {
	t.Helper()
	w := &world{Stage: stage.StartWith(t, stage.Copy(t, "testdata/gateway"), up.Options{Mode: up.Loopback, InternalKeys: true}), t: t}
	w.gateway = w.At("default/gw", 80)
	return w
}

// decide applies each policy and has the Envoys decide.
func (w *world) decide(themes []theme) {
	for _, th := range themes {
		w.t.Run(th.name, func(t *testing.T) {
			if th.policy != "" {
				w.Delivered(func() { w.Write("policy.yaml", th.policy) })
				w.inForce(t)
			}
			for i, r := range th.requests {
				// The first one waits, for what the control plane fetches.
				if i == 0 {
					envoytest.Eventually(t, stage.Patience, func() string { return w.differs(r) })
				} else if wrong := w.differs(r); wrong != "" {
					envoytest.Eventually(t, 2*time.Second, func() string { return w.differs(r) })
				}
			}
		})
	}
}

// inForce waits until the workers of web's and the gateway's Envoys have what
// was acknowledged: until then the listener before may decide as well.
func (w *world) inForce(t *testing.T) {
	t.Helper()
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, x := range w.Workloads() {
			if x.Name != "web" && x.Name != "entry" {
				continue
			}
			n, err := w.listenerCounts(t.Context(), x.Namespace, x.Pods[0].Name)
			switch {
			case err != nil:
				return err.Error()
			case n["total_listeners_warming"] != 0 || n["listener_create_success"] < n["listener_added"]+n["listener_modified"]:
				return fmt.Sprintf("not all listeners of %s have reached the workers: %v", x.Name, n)
			}
		}
		return ""
	})
}

// listenerCounts are Envoy's statistics of listeners.
func (w *world) listenerCounts(ctx context.Context, namespace, pod string) (map[string]int, error) {
	var text strings.Builder
	if err := w.WriteMetrics(ctx, &text, namespace, pod); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for line := range strings.Lines(text.String()) {
		if rest, ok := strings.CutPrefix(line, "envoy_listener_manager_"); ok {
			name, value, _ := strings.Cut(strings.TrimSpace(rest), "{} ")
			n, err := strconv.Atoi(value)
			if err == nil {
				out[name] = n
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no statistics of listeners")
	}
	return out, nil
}

func (w *world) differs(r request) string {
	got, answer := w.outcome(r)
	switch {
	case got != r.want:
		return fmt.Sprintf("%v: %s, want %s\n%s", r, got, r.want, answer)
	case !strings.Contains(answer, r.seen):
		return fmt.Sprintf("%v: no %s in the answer:\n%s", r, r.seen, answer)
	case r.unseen != "" && strings.Contains(answer, r.unseen):
		return fmt.Sprintf("%v: %s in the answer:\n%s", r, r.unseen, answer)
	}
	return ""
}

// outcome sends a request by a connection of its own. The answer is the
// response's text, for humans and for what is to be seen in it.
func (w *world) outcome(r request) (what, answer string) {
	ctx, cancel := context.WithTimeout(context.Background(), stage.Patience)
	defer cancel()
	c, err := w.connect(ctx, r)
	if err != nil {
		return err.Error(), ""
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(stage.Patience)); err != nil {
		return err.Error(), ""
	}
	if r.bytes != "" {
		return exchange(c, r.bytes), ""
	}
	host := "web"
	if r.from == "other/guest" {
		host = "web.default"
	}
	header := "Connection: close\r\n"
	if r.header != "" {
		header += strings.ReplaceAll(r.header, "\n", "\r\n") + "\r\n"
	}
	if r.body != "" {
		header += fmt.Sprintf("Content-Length: %d\r\n", len(r.body))
	}
	_, err = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s", cmp.Or(r.method, "GET"), cmp.Or(r.path, "/"), cmp.Or(r.host, host), header, r.body)
	if err != nil && r.want != tooLarge { // which is said while the request is still being written
		return closed, ""
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return closed, ""
	}
	defer func() { _ = resp.Body.Close() }()
	var text strings.Builder
	for name, values := range resp.Header {
		fmt.Fprintf(&text, "%s: %s\n", strings.ToLower(name), strings.Join(values, ","))
	}
	_, _ = io.Copy(&text, resp.Body)
	return fmt.Sprint(resp.StatusCode), text.String()
}

func (w *world) connect(ctx context.Context, r request) (net.Conn, error) {
	if w.gateway != "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", w.gateway)
	}
	dial, err := w.Dialer(cmp.Or(r.from, "default/friend"))
	if err != nil {
		return nil, err
	}
	port := 8080
	if r.bytes != "" {
		port = 9000
	}
	return dial(ctx, "tcp", net.JoinHostPort("web", fmt.Sprint(cmp.Or(r.port, port))))
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
