package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
)

// Pages are the control plane's HTTP views.
type Pages struct {
	Plane *Plane
	Build Build
	// Draining is closed when the control plane is about to end.
	Draining <-chan struct{}
	Pprof    bool
	// Visitor finds out who asks for a page from another machine; nil refuses
	// them all.
	Visitor func(*http.Request) (ca.Caller, error)
	// Namespaces are those whose service accounts may see every page. Others see
	// what is about their own namespace's proxies.
	Namespaces []string
	// Open has the debug pages answer everybody. Profiles and the page about the
	// configuration stay for those who are proven.
	Open bool
	// Page makes the page about the configuration, below /config/; nil for
	// none.
	Page func(mesh func() *config.Mesh) http.Handler
	// Unready says what besides the mesh is not ready to be served; nil for
	// nothing.
	Unready func() error
	// Stale is when the state in service was saved, zero if it is the API
	// server's; nil for never.
	Stale func() time.Time
}

// Readiness serves /ready: 200 once the first complete mesh is in service and
// until the end begins; and, as istiod does, the debug pages.
func (p *Pages) Readiness() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-p.Draining:
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		default:
		}
		select {
		case <-p.Plane.Cache.Ready():
		default:
			http.Error(w, "waiting for the first complete view of the configuration", http.StatusServiceUnavailable)
			return
		}
		if p.Unready != nil {
			if err := p.Unready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		if p.Stale != nil && !p.Stale().IsZero() {
			_, _ = fmt.Fprintf(w, "ready, but stale: the API server is away, and what is served was saved at %s\n", p.Stale().UTC().Format(time.RFC3339))
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("/debug/", p.debugFor())
	return mux
}

// debugFor are the debug pages for those who may see them.
func (p *Pages) debugFor() http.Handler {
	if p.Open {
		return p.debug()
	}
	return p.proven(p.debug())
}

// versions is /version: ours, and in the form that Istio's tools read.
type versions struct {
	Build
	Istio istioBuild `json:"clientVersion"`
}

// Monitoring serves /metrics, /version and, to clients on this machine and those
// that have proven who they are, /debug.
func (p *Pages) Monitoring() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Plane.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, versions{p.Build, p.Build.istio()}) })
	mux.Handle("/debug/", p.debugFor())
	if p.Page != nil {
		mux.Handle("/config/", p.proven(http.StripPrefix("/config", p.Page(p.Plane.InEffect))))
	}
	if p.Pprof {
		mux.Handle("/debug/pprof/", p.proven(http.HandlerFunc(pprof.Index)))
		mux.Handle("/debug/pprof/cmdline", p.proven(http.HandlerFunc(pprof.Cmdline)))
		mux.Handle("/debug/pprof/profile", p.proven(http.HandlerFunc(pprof.Profile)))
		mux.Handle("/debug/pprof/symbol", p.proven(http.HandlerFunc(pprof.Symbol)))
		mux.Handle("/debug/pprof/trace", p.proven(http.HandlerFunc(pprof.Trace)))
	}
	return mux
}

// proven lets in clients of this machine, and those of other machines who have
// proven who they are, as at the secure ADS address: they show the mesh's whole
// configuration to the control plane's own namespace, and to others what is
// about their proxies.
func (p *Pages) proven(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
			h.ServeHTTP(w, r)
			return
		}
		if p.Visitor == nil {
			http.Error(w, "debug pages answer clients on the same machine only: use a port-forward", http.StatusUnauthorized)
			return
		}
		c, err := p.Visitor(r)
		if err != nil {
			http.Error(w, err.Error(), httpStatus[status.Code(ca.Status(err))])
			return
		}
		if slices.Contains(p.Namespaces, c.Namespace) {
			h.ServeHTTP(w, r)
			return
		}
		page, debug := strings.CutPrefix(r.URL.Path, "/debug/")
		if !debug || !slices.Contains(elsewherePages, page) {
			http.Error(w, fmt.Sprintf("%s is for namespace %s; yours is %s", r.URL.Path, strings.Join(p.Namespaces, ", "), c.Namespace), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c.Namespace)))
	})
}

// httpStatus is what a refusal is over HTTP.
var httpStatus = map[codes.Code]int{
	codes.Unauthenticated: http.StatusUnauthorized, codes.PermissionDenied: http.StatusForbidden, codes.Unavailable: http.StatusServiceUnavailable,
	codes.InvalidArgument: http.StatusBadRequest, codes.Unimplemented: http.StatusNotImplemented,
}

// writeJSON answers with v; the query parameter pretty indents it.
func writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	var b []byte
	var err error
	if r.URL.Query().Has("pretty") {
		b, err = json.MarshalIndent(v, "", "  ")
	} else {
		b, err = json.Marshal(v)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}
