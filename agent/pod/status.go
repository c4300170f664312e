package pod

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

// status answers on port 15020.
type status struct {
	admin   *admin
	drainer *drainer
	quit    func()
	// became is told that the proxy is ready, each time; it must not block.
	became  func()
	metrics *scraper
	probes  *probes
	log     *zap.Logger

	mu       sync.Mutex // guards what follows
	wasReady bool
}

func (s *status) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz/ready", s.ready)
	mux.HandleFunc("/quitquitquit", localPost(func(w http.ResponseWriter, _ *http.Request) {
		s.log.Info("asked to quit")
		s.quit()
		_, _ = w.Write([]byte("OK\n"))
	}))
	mux.HandleFunc("/drain", localPost(func(w http.ResponseWriter, r *http.Request) {
		s.log.Info("asked to drain")
		if err := s.drainer.now(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("OK\n"))
	}))
	mux.HandleFunc("/stats/prometheus", s.metrics.serve)
	mux.HandleFunc("/metrics", s.metrics.serve)
	mux.HandleFunc("/app-health/", s.probes.serve)
	mux.HandleFunc("/app-lifecycle/", s.probes.serve)
	return mux
}

func (s *status) ready(w http.ResponseWriter, r *http.Request) {
	err := s.admin.ready(r.Context())
	s.mu.Lock()
	changed := s.wasReady != (err == nil)
	s.wasReady = err == nil
	s.mu.Unlock()
	switch {
	case err != nil && changed:
		s.log.Warn("not ready", zap.Error(err))
	case changed:
		s.log.Info("ready")
		s.became()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// localPost lets in POST requests from the pod itself.
func localPost(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			http.Error(w, "only from the pod itself", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPost {
			http.Error(w, "want POST", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	}
}

// serveHTTP serves until the returned function is called.
func serveHTTP(l net.Listener, h http.Handler) (stop func()) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
		<-done
	}
}
