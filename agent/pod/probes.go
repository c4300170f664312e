package pod

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// A probe is one of kubelet's, which injection pointed at the agent: kubelet
// speaks no mTLS, the agent is beside the application.
type probe struct {
	HTTP    *httpProbe `json:"httpGet"`
	TCP     *tcpProbe  `json:"tcpSocket"`
	GRPC    *grpcProbe `json:"grpc"`
	Timeout int        `json:"timeoutSeconds"`
}

type httpProbe struct {
	Path    string      `json:"path"`
	Host    string      `json:"host"`
	Port    port        `json:"port"`
	Scheme  string      `json:"scheme"`
	Headers []nameValue `json:"httpHeaders"`
}

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type tcpProbe struct {
	Host string `json:"host"`
	Port port   `json:"port"`
}

type grpcProbe struct {
	Port    port    `json:"port"`
	Service *string `json:"service"`
}

// port is a number; injection has resolved names.
type port uint16

func (p *port) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %s: want a number from 1 to 65535", b)
	}
	*p = port(n)
	return nil
}

// probes are the application's, by path.
type probes struct {
	byPath map[string]*probe
	// host is where the application is asked: the pod's address as kubelet
	// would, or loopback.
	host string
	log  *zap.Logger
}

var probePath = regexp.MustCompile(`^/(app-health|app-lifecycle)/[^/]+/(livez|readyz|startupz|prestopz|poststartz)$`)

// parseProbes reads ISTIO_KUBE_APP_PROBERS.
func parseProbes(text, host string, log *zap.Logger) (*probes, error) {
	p := &probes{byPath: map[string]*probe{}, host: host, log: log}
	if text == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p.byPath); err != nil {
		return nil, fmt.Errorf("environment ISTIO_KUBE_APP_PROBERS: %w", err)
	}
	for path, pr := range p.byPath {
		kinds := 0
		for _, set := range []bool{pr != nil && pr.HTTP != nil, pr != nil && pr.TCP != nil, pr != nil && pr.GRPC != nil} {
			if set {
				kinds++
			}
		}
		if !probePath.MatchString(path) || kinds != 1 {
			return nil, fmt.Errorf("environment ISTIO_KUBE_APP_PROBERS: %q: want /app-health/<container>/livez, readyz or startupz with one of httpGet, tcpSocket and grpc", path)
		}
	}
	return p, nil
}

func (p *probes) serve(w http.ResponseWriter, r *http.Request) {
	pr := p.byPath[r.URL.Path]
	if pr == nil {
		http.Error(w, fmt.Sprintf("no probe is known by %s", r.URL.Path), http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(max(pr.Timeout, 1))*time.Second)
	defer cancel()
	var err error
	switch {
	case pr.HTTP != nil:
		err = p.http(ctx, pr.HTTP, w, r)
	case pr.TCP != nil:
		err = p.tcp(ctx, pr.TCP)
	default:
		err = p.grpc(ctx, pr.GRPC)
	}
	if err != nil {
		p.log.Info("a probe of the application failed", zap.String("probe", r.URL.Path), zap.Error(err))
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// dial connects past redirection, as Envoy does when it calls the application.
func (p *probes) dial(ctx context.Context, _, at string) (net.Conn, error) {
	d := net.Dialer{Control: lingerShortly}
	if host, _, err := net.SplitHostPort(at); err == nil {
		if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
			d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 6)}
		} else if err == nil && p.sixSource() {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP("::6")}
		}
	}
	return d.DialContext(ctx, "tcp", at)
}

// sixSource reports whether the init step gave the pod the address ::6.
func (p *probes) sixSource() bool {
	l, err := net.Listen("tcp", "[::6]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// maxBody is how much of the application's answer is passed on.
const maxBody = 10 << 10

func (p *probes) http(ctx context.Context, h *httpProbe, w http.ResponseWriter, r *http.Request) error {
	scheme, host, path := strings.ToLower(h.Scheme), h.Host, h.Path
	if scheme == "" {
		scheme = "http"
	}
	if host == "" {
		host = p.host
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u, err := url.Parse(scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(h.Port))) + path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	for _, nv := range h.Headers {
		if strings.EqualFold(nv.Name, "host") {
			req.Host = nv.Value
			continue
		}
		req.Header.Set(nv.Name, nv.Value)
	}
	tr := &http.Transport{
		DialContext: p.dial, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // kubelet's probes do not verify either
	}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: sameHost}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for name, values := range resp.Header {
		switch name {
		case "Connection", "Content-Length", "Transfer-Encoding":
		default:
			w.Header()[name] = values
		}
	}
	status := resp.StatusCode
	if status >= 300 && status < 400 { // a redirect to elsewhere is a success, as for kubelet
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = io.Copy(w, io.LimitReader(resp.Body, maxBody))
	return nil
}

// sameHost follows redirects as kubelet does.
func sameHost(r *http.Request, via []*http.Request) error {
	if r.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

func (p *probes) tcp(ctx context.Context, t *tcpProbe) error {
	host := t.Host
	if host == "" {
		host = p.host
	}
	c, err := p.dial(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(t.Port))))
	if err != nil {
		return err
	}
	return c.Close()
}

func (p *probes) grpc(ctx context.Context, g *grpcProbe) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(p.host, strconv.Itoa(int(g.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithUserAgent("kube-probe"),
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) { return p.dial(ctx, "tcp", at) }))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	service := ""
	if g.Service != nil {
		service = *g.Service
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if s := resp.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service %q is %s", service, s)
	}
	return nil
}
