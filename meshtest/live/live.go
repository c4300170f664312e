// Package live is the engine of package meshtest that sends real requests: it
// runs the mesh on this machine, with a real Envoy for each proxy, by package
// up.
//
// It consumes folders of YAML and produces simulate.Answers of what was seen
// from outside. Only commands and tests may import it.
package live

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/up"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// Engine is a running mesh. It implements meshtest.Engine.
type Engine struct {
	mesh  *up.Mesh
	world *simulate.World

	mu      sync.Mutex // guards clients
	clients map[string]*http.Client
}

var _ meshtest.Engine = (*Engine)(nil)

// Start runs the mesh of the paths. World is the same configuration's.
func Start(ctx context.Context, paths []string, w *simulate.World, envoy string, note func(string)) (*Engine, error) {
	m, err := up.Start(ctx, up.Options{Paths: paths, Envoy: envoy, Note: note})
	if err != nil {
		return nil, err
	}
	return &Engine{mesh: m, world: w, clients: map[string]*http.Client{}}, nil
}

// Close ends the mesh.
func (e *Engine) Close() {
	e.mu.Lock()
	for _, c := range e.clients {
		c.CloseIdleConnections()
	}
	e.mu.Unlock()
	e.mesh.Close()
}

// Name implements meshtest.Engine.
func (*Engine) Name() string { return "envoy" }

const (
	fewest  = 30  // requests of one query
	most    = 300 // where they end differently
	timeout = 20 * time.Second
)

// Ask implements meshtest.Engine: it sends the request many times, and more
// often where the answers differ.
func (e *Engine) Ask(q *simulate.Query) (*simulate.Answer, error) {
	if q.Claims != nil {
		return nil, fmt.Errorf("%w: the request has a token, which only its issuer can sign", meshtest.ErrNotHere)
	}
	u, err := url.Parse(q.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: only HTTP is sent", meshtest.ErrNotHere)
	}
	client, target, err := e.client(q, u)
	if err != nil {
		return nil, err
	}
	seen := &observation{}
	for n := 0; n < fewest || n < most && len(seen.kinds) > 1; n++ {
		if err := seen.send(client, q, target, u); err != nil {
			return nil, err
		}
	}
	return seen.answer(q), nil
}

// client is who sends, and where to.
func (e *Engine) client(q *simulate.Query, u *url.URL) (*http.Client, string, error) {
	if name, ok := strings.CutPrefix(q.From, "gateway/"); ok {
		port := uint32(80)
		if u.Scheme == "https" {
			port = 443
		}
		if p := u.Port(); p != "" {
			_, _ = fmt.Sscanf(p, "%d", &port)
		}
		at, err := e.mesh.Gateway(name, port)
		if err != nil {
			return nil, "", err
		}
		sni := q.SNI
		if sni == "" {
			sni = u.Hostname()
		}
		return e.remember(at+sni, func() (*http.Client, error) { return outside(sni), nil }), u.Scheme + "://" + at, nil
	}
	if strings.HasPrefix(q.From, "plain/") {
		return nil, "", fmt.Errorf("%w: no pod without a sidecar sends requests", meshtest.ErrNotHere)
	}
	p, err := e.world.Find(q.From)
	if err != nil {
		return nil, "", err
	}
	var failed error
	c := e.remember(p.Name(), func() (*http.Client, error) {
		c, err := e.mesh.Client(p.Name())
		failed = err
		return c, err
	})
	return c, u.Scheme + "://" + u.Host, failed
}

func (e *Engine) remember(key string, make func() (*http.Client, error)) *http.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.clients[key]; c != nil {
		return c
	}
	c, err := make()
	if err == nil {
		e.clients[key] = c
	}
	return c
}

// outside is a client of a gateway. It takes any certificate: what is tested
// is where requests go.
func outside(sni string) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{ServerName: sni, InsecureSkipVerify: true}, //nolint:gosec // a test of routing on this machine
		},
	}
}

// observation is what a number of equal requests ended in.
type observation struct {
	total int
	kinds []*kind
}

// kind is one way in which requests ended.
type kind struct {
	n      int
	result simulate.Result
	reply  *simulate.Reply
	sent   *simulate.Sent
}

func (o *observation) send(c *http.Client, q *simulate.Query, target string, u *url.URL) error {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	path := u.RequestURI()
	req, err := http.NewRequest(method, target+path, http.NoBody)
	if err != nil {
		return err
	}
	req.Host = u.Host
	for _, h := range q.Header {
		if strings.EqualFold(h.Name, "host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := c.Do(req)
	if err != nil {
		var n net.Error
		if errors.As(err, &n) && n.Timeout() {
			return err
		}
		o.add(kind{reply: &simulate.Reply{Reason: "the connection is closed"}})
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	o.add(kindOf(resp, b))
	return nil
}

// kindOf reads an answer: that of an application, or of an Envoy.
func kindOf(resp *http.Response, body []byte) kind {
	var a echo.Answer
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &a) == nil && a.Pod != "" {
		k := kind{result: simulate.Result{
			Delivered: true, Workload: a.Namespace + "/" + a.Workload, Labels: a.Labels, Security: simulate.Plaintext,
		}}
		var header simulate.Header
		for name, values := range a.Headers {
			for _, v := range values {
				header = append(header, simulate.Field{Name: name, Value: v})
			}
		}
		if a.Headers.Get("X-Forwarded-Client-Cert") != "" {
			k.result.Security = simulate.MTLS
		}
		k.sent = simulate.SentOf(a.Method, a.Host, a.Path, header)
		return k
	}
	reason := strings.TrimSpace(string(body))
	if reason == "" {
		reason = resp.Status
	}
	return kind{reply: &simulate.Reply{Status: resp.StatusCode, Reason: reason, Location: resp.Header.Get("Location"), Body: string(body)}}
}

func (o *observation) add(k kind) {
	o.total++
	if k.reply != nil {
		k.result = simulate.Result{Status: k.reply.Status, Reason: k.reply.Reason}
	}
	for _, have := range o.kinds {
		a, b := &have.result, &k.result
		if a.Delivered == b.Delivered && a.Workload == b.Workload && a.Status == b.Status && a.Labels["version"] == b.Labels["version"] && a.Security == b.Security {
			have.n++
			return
		}
	}
	k.n = 1
	o.kinds = append(o.kinds, &k)
}

// answer is what was seen, in the simulator's form.
func (o *observation) answer(q *simulate.Query) *simulate.Answer {
	a := &simulate.Answer{From: q.From, Request: q.URL, Hop: &simulate.Hop{Proxy: "the mesh"}, Observed: o.total}
	for _, k := range o.kinds {
		share := 100 * float64(k.n) / float64(o.total)
		k.result.Percent = share
		a.Results = append(a.Results, k.result)
		if k.reply != nil {
			a.Hop.Reply = k.reply
			if len(o.kinds) > 1 {
				a.Hop.Fault = &simulate.Fault{Abort: k.reply.Status, AbortPercent: share}
			}
			continue
		}
		a.Hop.Sent = k.sent
		a.Hop.To = append(a.Hop.To, simulate.Destination{
			Percent: share, Endpoints: []simulate.Endpoint{{Workload: k.result.Workload, Labels: k.result.Labels, Percent: 100}},
		})
	}
	return a
}
