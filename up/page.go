package up

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// openPage listens for the page. It comes before everything else: an address
// in use must not leave half a mesh running.
func (m *Mesh) openPage() error {
	if m.options.PageAddress == "" {
		return nil
	}
	l, err := serve.Listen(m.options.PageAddress, "http-address")
	m.pageListener = l
	return err
}

// servePage serves the page of the mesh, below /debug and /metrics the control
// plane's own, and below /prometheus the metrics of pods, until ctx ends. The
// same address is an HTTP proxy for the workloads.
func (m *Mesh) servePage(ctx context.Context) {
	if m.pageListener == nil {
		return
	}
	pages := &serve.Pages{Plane: m.plane, Build: m.options.Build, Draining: ctx.Done()}
	monitoring := pages.Monitoring()
	mux := http.NewServeMux()
	for _, path := range []string{"/debug/", "/metrics", "/version"} {
		mux.Handle(path, monitoring)
	}
	m.serveScrapes(mux)
	options := m.pageOptions()
	page := dashboard.New(options)
	mux.Handle("/", page)
	live := report.NewLive(options.Title, m.plane.InEffect, m.tests)
	live.Above = true
	mux.Handle("/config/", http.StripPrefix("/config", live))
	// The debug pages tell as much as the page: other sites must not read them.
	s := &http.Server{Handler: m.asWorkload(dashboard.Guard(nil, mux)), ReadHeaderTimeout: 10 * time.Second}
	m.running.Go(func() { page.Run(ctx) })
	m.running.Go(func() { live.Run(ctx) })
	m.running.Go(func() { _ = s.Serve(m.pageListener) })
	m.running.Go(func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			_ = s.Close()
		}
	})
}

// PageURL is where the page is; empty without one.
func (m *Mesh) PageURL() string {
	if m.pageListener == nil {
		return ""
	}
	host, port, _ := net.SplitHostPort(m.pageListener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

func (m *Mesh) pageOptions() dashboard.Options {
	names := make([]string, len(m.options.Paths))
	for i, p := range m.options.Paths {
		names[i] = filepath.Base(p)
		if abs, err := filepath.Abs(p); err == nil {
			names[i] = filepath.Base(abs)
		}
	}
	o := dashboard.Options{
		Title: strings.Join(names, ", "), Meshes: m.plane.Store, Problems: m.plane,
		Proxies: proxiesView{m.plane.Server}, Changes: changesView{m.plane.Server}, Weights: &weightfile.Files{},
	}
	if m.load != nil {
		o.Traffic = trafficView{m.load}
	}
	return o
}

// The views show the running parts as the page wants them.
type (
	proxiesView struct{ server *snapshot.Server }
	changesView struct{ server *snapshot.Server }
	trafficView struct{ load *Load }
)

// shownTypes are the resource types that the page shows, by their short names.
var shownTypes = []string{"cds", "eds", "lds", "rds"}

// Proxies implements dashboard.Proxies.
func (v proxiesView) Proxies() []dashboard.Proxy {
	list := v.server.Proxies()
	out := make([]dashboard.Proxy, len(list))
	for i, s := range list {
		p := dashboard.Proxy{
			ID: s.Proxy.ID, Name: s.Proxy.Name, Namespace: s.Proxy.Namespace, Type: s.Proxy.Type,
			Version: s.Proxy.EnvoyVersion, Connected: s.Connected,
		}
		has := map[string]int{}
		for _, sent := range v.server.Config(p.ID) {
			has[sent.Type] = len(sent.Resources)
		}
		for _, short := range shownTypes {
			for _, t := range s.Types {
				if t.Short == short {
					p.Syncs = append(p.Syncs, v.sync(t, has[t.Type]))
				}
			}
		}
		out[i] = p
	}
	return out
}

func (v proxiesView) sync(t snapshot.TypeStatus, resources int) dashboard.Sync {
	s := dashboard.Sync{Type: strings.ToUpper(t.Short), Status: dashboard.Status(t.Sync), Resources: resources}
	if t.Sync != snapshot.Failed {
		return s
	}
	s.Rejection = &config.Problem{Severity: config.Error, Code: "ProxyRejected"}
	for _, p := range v.server.Problems() {
		// The server's problem names the object; its message quotes the proxy.
		if p.Code == s.Rejection.Code && t.Error != "" && strings.Contains(p.Message, t.Error) {
			*s.Rejection = p
			break
		}
	}
	if s.Rejection.Message = t.Error; t.Error == "" {
		s.Rejection.Message = fmt.Sprintf("%d resources stay as they were", len(t.Rejected))
	}
	return s
}

// Changes implements dashboard.Changes.
func (v changesView) Changes() []dashboard.Change {
	list := v.server.Changes()
	out := make([]dashboard.Change, len(list))
	for i, c := range list {
		out[i] = dashboard.Change{
			ID: c.Sequence, At: c.Noticed, Objects: c.Objects, ObjectCount: c.ObjectCount,
			Proxies: c.Proxies, Reached: c.Reached, Last: c.Last,
		}
		for _, a := range c.Arrivals {
			out[i].Arrivals = append(out[i].Arrivals, dashboard.Arrival{Proxy: proxyName(a.Proxy), After: a.After})
		}
	}
	return out
}

// proxyName is name.namespace of a node id.
func proxyName(id string) string {
	if parts := strings.Split(id, "~"); len(parts) == 4 {
		return parts[2]
	}
	return id
}

// Seconds implements dashboard.Traffic.
func (v trafficView) Seconds(from time.Time) []dashboard.Second {
	list := v.load.Seconds(from)
	out := make([]dashboard.Second, len(list))
	for i, s := range list {
		out[i] = dashboard.Second{Start: s.Start, End: s.End, Unanswered: s.Unanswered, LastError: s.LastError}
		for _, a := range s.Answers {
			out[i].Answers = append(out[i].Answers, dashboard.Answers{
				Namespace: a.Namespace, Workload: a.Workload, Requests: a.Requests, Errors: a.Errors, P50: a.P50, P99: a.P99,
			})
		}
	}
	return out
}
