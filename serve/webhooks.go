package serve

import (
	"context"
	"net/http"

	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
	"github.com/pilotfish-mesh/pilotfish/webhook/validate"
)

// webhooks are what the webhooks' address serves, and what they follow.
type webhooks struct {
	plane    *Plane
	injected *inject.Follower
	handler  http.Handler
}

func newWebhooks(p *Plane, o *Options) *webhooks {
	w := &webhooks{plane: p, injected: inject.NewFollower(inject.Options{
		Revision: o.Revision, Native: o.NativeSidecars, Tag: imageTag(o.Build.Version),
	})}
	p.Report(w.injected.Problems)
	mux := http.NewServeMux()
	injection := inject.Handler(w.injected, p.Registry, o.Log)
	mux.Handle("/inject", injection)
	mux.Handle("/inject/", injection)
	validation := validate.Handler(validated{p}, p.Registry, o.Log)
	mux.Handle("/validate", validation)
	mux.Handle("/validate/", validation)
	mux.HandleFunc("GET /httpsReady", func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := w.injected.Injector(); err != nil {
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = rw.Write([]byte("ready\n"))
	})
	w.handler = mux
	return w
}

// imageTag is the tag of this version's images; empty for a build that was
// not given a version.
func imageTag(version string) string {
	if version == "unknown" {
		return ""
	}
	return version
}

// run lets the webhooks follow the mesh until ctx ends.
func (w *webhooks) run(ctx context.Context) error {
	changed := w.plane.Watch()
	for {
		if m := w.plane.Store.Mesh(); m != nil {
			w.injected.Follow(m)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
