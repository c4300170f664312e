package simulate

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Query is one request or connection, as the one who sends it means it.
type Query struct {
	// From is the client: a workload (web.shop, shop/web, or web alone where
	// that is clear), a gateway that clients outside come to
	// (gateway/istio-system/ingress: a Gateway's or its workload's name), or a
	// pod without a proxy in some namespace (plain/shop).
	From string
	// URL is http, https, tcp or tls: //host[:port][/path].
	URL    string
	Method string // GET if empty
	Header Header // Host is the request's authority
	// Claims are those of the request's token, which is in its Authorization,
	// or wherever TokenText stands for it.
	Claims map[string]any
	HTTP2  bool
	// SNI is that of a tls or https connection; the host if empty.
	SNI string
	// Certificate is what the client shows in TLS of its own; nil for none.
	Certificate *Certificate `json:",omitempty"`
	// Source is the address of a client outside; one of RFC 5737 if empty.
	Source netip.Addr
}

// UnknownName is a mistake in a Query: nothing has the name.
type UnknownName struct {
	What, Name string
	Near       string // what may have been meant, or ""
}

// Error implements error.
func (u *UnknownName) Error() string {
	msg := fmt.Sprintf("no %s %q in the configuration", u.What, u.Name)
	if u.Near != "" {
		msg += fmt.Sprintf(": did you mean %q?", u.Near)
	}
	return msg
}

// fault says what of a request no client could send.
func (q *Query) fault() error {
	if q.Certificate != nil && !strings.HasPrefix(q.URL, "https://") && !strings.HasPrefix(q.URL, "tls://") {
		return fmt.Errorf("URL %q: a client certificate is shown in TLS: want https or tls", q.URL)
	}
	if q.Method != "" && !httpguts.ValidHeaderFieldName(q.Method) { // both are tokens (RFC 9110, section 5.6.2)
		return fmt.Errorf("method %q: want a word without spaces, such as GET", q.Method)
	}
	for _, h := range q.Header {
		if name := strings.TrimPrefix(h.Name, ":"); !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("header %q: no header can have this name", h.Name)
		}
		if !httpguts.ValidHeaderFieldValue(h.Value) {
			return fmt.Errorf("header %q: no header can have the value %q", h.Name, h.Value)
		}
	}
	return nil
}

// target is a parsed Query.URL.
type target struct {
	scheme string
	host   string
	port   uint16
	path   string
	url    string
}

var schemePorts = map[string]uint16{"http": 80, "https": 443, "tls": 443}

func parseTarget(text string) (*target, error) {
	typed := text
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("URL %q: %w", text, err)
	}
	t := &target{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), path: u.EscapedPath(), url: text}
	switch u.Scheme {
	case "http", "https", "tcp", "tls":
	default:
		return nil, fmt.Errorf("URL %q: scheme %q: want http, https, tcp or tls", text, u.Scheme)
	}
	if t.host == "" {
		return nil, fmt.Errorf("URL %q names no host", typed)
	}
	t.port = schemePorts[u.Scheme]
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("URL %q: port %q: want 1 to 65535", text, p)
		}
		t.port = uint16(n)
	}
	if t.port == 0 {
		return nil, fmt.Errorf("URL %q: a tcp connection needs a port", text)
	}
	if i := strings.Index(text, "://"); i >= 0 { // as written, so that odd paths stay what they are
		rest := text[i+3:]
		if j := strings.IndexAny(rest, "/?"); j >= 0 {
			t.path = rest[j:]
		}
	}
	if !strings.HasPrefix(t.path, "/") {
		t.path = "/" + t.path
	}
	return t, nil
}

func (t *target) isHTTP() bool { return t.scheme == "http" || t.scheme == "https" }

func (t *target) isTLS() bool { return t.scheme == "https" || t.scheme == "tls" }

// authority is the Host that a client sends.
func (t *target) authority() string {
	if t.port == schemePorts[t.scheme] {
		return t.host
	}
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
}

// http is the request of a Query.
func (q *Query) http(t *target) *HTTP {
	if !t.isHTTP() {
		return nil
	}
	h := &HTTP{Method: q.Method, Scheme: t.scheme, Authority: t.authority(), Path: t.path, HTTP2: q.HTTP2, Claims: q.Claims}
	if h.Method == "" {
		h.Method = "GET"
	}
	for _, f := range q.Header {
		if strings.EqualFold(f.Name, "host") || f.Name == ":authority" {
			h.Authority = f.Value
			continue
		}
		h.Header = append(h.Header, f)
	}
	h.placeToken()
	return h
}

func (q *Query) tls(t *target) *ClientTLS {
	if !t.isTLS() {
		return nil
	}
	out := &ClientTLS{SNI: q.SNI, Certificate: q.Certificate}
	if out.SNI == "" {
		if _, err := netip.ParseAddr(t.host); err != nil {
			out.SNI = t.host
		}
	}
	if t.scheme == "https" {
		out.ALPN = []string{"h2", "http/1.1"}
	}
	return out
}

// client is who asks.
type client struct {
	pod       *Pod // nil for a client without a proxy, and outside
	namespace string
	outside   bool
	gateway   *config.Gateway // what was named, or nil
}

func (w *World) client(from string) (*client, error) {
	switch {
	case from == "":
		return nil, fmt.Errorf("who asks is missing: name a workload, such as web.shop, or a gateway, such as gateway/istio-system/ingress")
	case strings.HasPrefix(from, "gateway/"):
		return w.gatewayClient(strings.TrimPrefix(from, "gateway/"))
	case strings.HasPrefix(from, "plain/"):
		return &client{namespace: strings.TrimPrefix(from, "plain/")}, nil
	}
	p, err := w.Find(from)
	if err != nil {
		return nil, err
	}
	if p.Role == config.GatewayPod {
		return &client{pod: p, namespace: p.Namespace, outside: true}, nil
	}
	return &client{pod: p, namespace: p.Namespace}, nil
}

// FromOutside reports whether who asks is a client outside.
func (w *World) FromOutside(from string) bool {
	c, err := w.client(from)
	return err == nil && c.outside
}

// Find returns the first pod of a workload: web.shop, shop/web, or web where
// only one namespace has it; or the pod of that name.
func (w *World) Find(name string) (*Pod, error) {
	var found []*Pod
	for _, p := range w.pods {
		for _, n := range []string{p.WorkloadName(), p.Workload.Name} {
			if name == n+"."+p.Namespace || name == p.Namespace+"/"+n {
				return p, nil
			}
			if name == n && !slices.ContainsFunc(found, func(f *Pod) bool { return f.Namespace == p.Namespace }) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &UnknownName{"workload", name, w.nearestWorkload(name)}
	}
	var in []string
	for _, p := range found {
		in = append(in, name+"."+p.Namespace)
	}
	return nil, fmt.Errorf("workload %q is in several namespaces: say which (%s)", name, strings.Join(in, ", "))
}

func (w *World) nearestWorkload(name string) string {
	var names []string
	ns, workload, _ := strings.Cut(name, ".")
	for _, p := range w.pods {
		if p.Namespace == ns && p.WorkloadName() == workload { // the wrong way round
			return workload + "." + ns
		}
		if strings.Contains(name, "/") {
			names = append(names, p.Name())
		} else {
			names = append(names, p.WorkloadName()+"."+p.Namespace, p.WorkloadName())
		}
	}
	return config.Nearest(name, names)
}

// gatewayClient is a client outside that comes to a gateway: the Gateway or
// the workload of that name.
func (w *World) gatewayClient(name string) (*client, error) {
	ns, short, full := strings.Cut(name, "/")
	if !full {
		short, ns = name, ""
	}
	var names []string
	for gw := range w.Mesh.Gateways.All() {
		names = append(names, gw.Namespace+"/"+gw.Name)
		if gw.Name != short || full && gw.Namespace != ns {
			continue
		}
		for _, p := range w.pods {
			if p.Role == config.GatewayPod && config.Selects(gw.Spec.GetSelector(), p.Labels) {
				return &client{pod: p, namespace: p.Namespace, outside: true, gateway: gw}, nil
			}
		}
	}
	for _, p := range w.pods {
		if p.Role != config.GatewayPod {
			continue
		}
		names = append(names, p.Name())
		if p.WorkloadName() == short && (!full || p.Namespace == ns) {
			return &client{pod: p, namespace: p.Namespace, outside: true}, nil
		}
	}
	return nil, &UnknownName{"gateway", name, config.Nearest(name, names)}
}
