package live

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// kind is one way in which requests ended.
type kind struct {
	n      int
	result simulate.Result
	reply  *simulate.Reply
	sent   *simulate.Sent
}

// send sends the request once, by a connection of its own: what was decided
// about an earlier one does not count. An error is about the machine, not
// about the mesh.
func (c *caller) send() (kind, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if c.url.Scheme == "tcp" || c.url.Scheme == "tls" {
		return c.connect(ctx)
	}
	return c.request(ctx)
}

func closed() kind { return kind{reply: &simulate.Reply{Reason: "the connection is closed"}} }

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// connect opens a connection and reads who answers.
func (c *caller) connect(ctx context.Context) (kind, error) {
	conn, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return closed(), ctx.Err()
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if c.url.Scheme == "tls" {
		secure := tls.Client(conn, c.tls())
		if err := secure.HandshakeContext(ctx); err != nil {
			return closed(), ctx.Err()
		}
		conn = secure
	}
	if _, err := io.WriteString(conn, "hello there\n"); err != nil {
		return closed(), ctx.Err()
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	var a echo.Answer
	if err != nil || json.Unmarshal(line, &a) != nil || a.Pod == "" {
		if timedOut(err) {
			return kind{}, err
		}
		return closed(), nil
	}
	k := answeredBy(&a)
	k.result.Security = "" // an application does not see in which form it came to its sidecar
	return k, nil
}

// request sends a request and reads the whole answer.
func (c *caller) request(ctx context.Context) (kind, error) {
	tr := &http.Transport{
		DialContext:       func(ctx context.Context, network, _ string) (net.Conn, error) { return c.dial(ctx, network, c.address) },
		DisableKeepAlives: true, TLSClientConfig: c.tls("h2", "http/1.1"), TLSHandshakeTimeout: timeout, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!c.query.HTTP2)
	tr.Protocols.SetHTTP2(true)
	tr.Protocols.SetUnencryptedHTTP2(c.query.HTTP2)
	defer tr.CloseIdleConnections()
	method := c.query.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, c.withToken(c.text), http.NoBody)
	if err != nil {
		return kind{}, err
	}
	for _, h := range c.query.Header {
		if strings.EqualFold(h.Name, "host") || h.Name == ":authority" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, c.withToken(h.Value))
	}
	if c.token != "" && !c.placed {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if timedOut(err) && ctx.Err() != nil {
			return kind{}, err
		}
		return closed(), nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return kind{}, err
	}
	resp.Header.Set("Location", c.withoutToken(resp.Header.Get("Location")))
	return kindOf(resp, []byte(c.withoutToken(string(b)))), nil
}

// withToken is a text of the query as it is sent.
func (c *caller) withToken(s string) string {
	if strings.Contains(s, simulate.TokenText) && c.token != "" {
		c.placed = true
		s = strings.ReplaceAll(s, simulate.TokenText, c.token)
	}
	return s
}

func (c *caller) withoutToken(s string) string {
	if c.token == "" {
		return s
	}
	return strings.ReplaceAll(s, c.token, simulate.TokenText)
}

// kindOf reads an answer: that of an application, or of an Envoy. Whether an
// application answered is in the headers, too, where there is no body.
func kindOf(resp *http.Response, body []byte) kind {
	var a echo.Answer
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &a) == nil && a.Pod != "" {
		k := answeredBy(&a)
		var header simulate.Header
		for name, values := range a.Headers {
			for _, v := range values {
				header = append(header, simulate.Field{Name: name, Value: v})
			}
		}
		if cameByMeshTLS(a.Headers.Values("X-Forwarded-Client-Cert")) {
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

// cameByMeshTLS reads what the last proxy says of its own connection: a gateway
// tells of clients outside, too, but has no name in the mesh to tell them.
func cameByMeshTLS(headers []string) bool {
	all := strings.Join(headers, ",")
	return strings.HasPrefix(all[strings.LastIndex(all, ",By=")+1:], "By=spiffe://")
}

func answeredBy(a *echo.Answer) kind {
	k := kind{result: simulate.Result{
		Delivered: true, Workload: a.Namespace + "/" + a.Workload, Labels: a.Labels, Security: simulate.Plaintext,
	}}
	if a.TLS != nil {
		k.result.Security = "" // there may be mesh TLS around it
	}
	return k
}

// observation is what a number of equal requests ended in.
type observation struct {
	total int
	kinds []*kind
}

func (o *observation) add(k kind) {
	o.total++
	if k.reply != nil {
		k.result = simulate.Result{Status: k.reply.Status, Reason: k.reply.Reason}
	}
	k.result.Sent = k.sent
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
