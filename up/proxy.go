package up

import (
	"context"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// asWorkload answers requests to an HTTP proxy (RFC 9112, 3.2.2 and 3.2.3), and
// leaves all others to next: whoever names a workload as the proxy's user
// (curl -x curl.foo@ADDRESS URL) sends as the application of that workload
// does, through its sidecar. No browser's page sends such requests to an
// address that it was not told to use as a proxy.
func (m *Mesh) asWorkload(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connect := r.Method == http.MethodConnect
		if !connect && !r.URL.IsAbs() {
			next.ServeHTTP(w, r)
			return
		}
		dial, err := m.Dialer(proxyUser(r))
		if err != nil {
			http.Error(w, "A proxy for the workload that the proxy's user names, NAME or NAME.NAMESPACE: "+err.Error(), http.StatusProxyAuthRequired)
			return
		}
		if connect {
			tunnel(w, r, dial)
			return
		}
		(&httputil.ReverseProxy{
			// A connection for each request: none outlives a policy.
			Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true},
			FlushInterval: -1,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.Host = p.In.Host
				for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
					if v := p.In.Header.Values(name); len(v) > 0 {
						p.Out.Header[name] = v
					}
				}
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusBadGateway)
			},
		}).ServeHTTP(w, r)
	})
}

// proxyUser is a workload as Dialer takes it.
func proxyUser(r *http.Request) string {
	user, _, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
	if name, namespace, ok := strings.Cut(user, "."); ok {
		return namespace + "/" + name
	}
	return user
}

const tunnelDialTimeout = 10 * time.Second

// tunnel connects the two until either ends.
func tunnel(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), tunnelDialTimeout)
	defer cancel()
	far, err := dial(ctx, "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = far.Close() }()
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = near.Close() }()
	if _, err := io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, buffered)
		if half, ok := far.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	both.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close() // ends the other direction
	})
	both.Wait()
}
