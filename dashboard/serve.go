package dashboard

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
)

// dist is the page as built from web/src; web/README.md says how.
//
//go:embed web/dist
var dist embed.FS

const (
	// maxStreams bounds the open pages.
	maxStreams = 64
	// heartbeat keeps idle streams and the things between from timing out.
	heartbeat = 10 * time.Second
	// writeTimeout closes a stream whose reader does not read.
	writeTimeout = 10 * time.Second
	maxBody      = 64 << 10
)

func (p *Page) routes() http.Handler {
	assets, err := fs.Sub(dist, "web/dist")
	if err != nil {
		panic("dashboard: " + err.Error()) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", serveAssets(assets))
	mux.HandleFunc("GET /api/stream", p.serveStream)
	mux.HandleFunc("GET /api/state", p.serveState)
	mux.HandleFunc("POST /api/weights", p.serveWeights)
	return Guard(p.o.Hosts, mux)
}

// serveStream sends server-sent events: "page" first, then each section when
// it changes, and traffic as it is measured. A browser that comes back names
// the last traffic that it has (Last-Event-ID) and gets what it missed.
func (p *Page) serveStream(w http.ResponseWriter, r *http.Request) {
	if !p.feed.enter(maxStreams) {
		http.Error(w, "too many open pages, or the server is stopping", http.StatusServiceUnavailable)
		return
	}
	defer p.feed.leave()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(format string, args ...any) bool {
		// Servers without deadlines (tests' recorders) only lack the protection.
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil
	}
	if !send("retry: 1000\nevent: page\ndata: %s\n\n", encode(p.view())) {
		return
	}
	c := p.resume(r.Header.Get("Last-Event-ID"))
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		events, changed, open := p.feed.next(&c)
		for _, e := range events {
			id := ""
			if e.id > 0 {
				id = fmt.Sprintf("id: %s.%d\n", p.boot, e.id)
			}
			if !send("%sevent: %s\ndata: %s\n\n", id, e.name, e.body) {
				return
			}
		}
		if !open || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			if !send(": still here\n\n") {
				return
			}
		}
	}
}

// resume reads an event id of serveStream's.
func (p *Page) resume(id string) cursor {
	c := cursor{versions: map[string]uint64{}, fresh: true}
	boot, number, _ := strings.Cut(id, ".")
	if n, err := strconv.ParseUint(number, 10, 64); err == nil && boot == p.boot {
		c.second, c.fresh = n, false
	}
	return c
}

// serveState answers with everything that a new stream would start with, as
// one JSON object, for programs.
func (p *Page) serveState(w http.ResponseWriter, _ *http.Request) {
	state := map[string]json.RawMessage{"page": encode(p.view())}
	c := p.resume("")
	events, _, _ := p.feed.next(&c)
	for _, e := range events {
		state[e.name] = e.body
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, state)
}

// weightsRequest asks for new weights of a route: all of them, in percent, or
// that of one destination, to which the others are then fitted.
type weightsRequest struct {
	Route       string  `json:"route"`
	Seen        []int32 `json:"seen"` // the configured weights that the user saw
	Weights     []int32 `json:"weights,omitempty"`
	Destination *int    `json:"destination,omitempty"`
	Percent     int32   `json:"percent,omitempty"`
}

func (p *Page) serveWeights(w http.ResponseWriter, r *http.Request) {
	if p.o.Weights == nil {
		refuse(w, http.StatusForbidden, "ReadOnly", "This page is read-only.")
		return
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "BadRequest", "Send the request as application/json.")
		return
	}
	var req weightsRequest
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", "The request cannot be read: "+err.Error())
		return
	}
	e, status, why := p.edit(req)
	if why != "" {
		refuse(w, status, http.StatusText(status), why)
		return
	}
	if err := p.o.Weights.WriteWeights(r.Context(), e); err != nil {
		refuseEdit(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"weights": e.Weights, "file": e.File})
}

// edit turns a request into an edit of what is shown, or says why not.
func (p *Page) edit(req weightsRequest) (e weightfile.Edit, status int, why string) {
	now := p.getShown()
	i := slices.IndexFunc(now.routes, func(r routeView) bool { return r.ID == req.Route })
	if i < 0 {
		return e, http.StatusNotFound, "This route no longer exists."
	}
	r := now.routes[i]
	if r.ReadOnly != "" {
		return e, http.StatusForbidden, r.ReadOnly
	}
	var weights []int32
	for _, d := range r.Destinations {
		weights = append(weights, d.Weight)
	}
	if !slices.Equal(weights, req.Seen) {
		return e, http.StatusConflict, fmt.Sprintf("The weights have changed to %v in the meantime. Look again, then repeat.", weights)
	}
	next := req.Weights
	if d := req.Destination; d != nil {
		if *d < 0 || *d >= len(weights) || req.Percent < 0 || req.Percent > weightfile.Total || next != nil {
			return e, http.StatusBadRequest, "Give either all weights, or a destination and its percent from 0 to 100."
		}
		next = rebalance(shares(weights), *d, req.Percent)
	}
	return editOf(now.mesh, r, next), 0, ""
}

func refuseEdit(w http.ResponseWriter, err error) {
	refusal := (*weightfile.Refusal)(nil)
	if !errors.As(err, &refusal) {
		refuse(w, http.StatusInternalServerError, "Internal", "The weights could not be written: "+err.Error())
		return
	}
	status := http.StatusUnprocessableEntity
	if refusal.Code == weightfile.CodeFileChanged {
		status = http.StatusConflict
	}
	writeJSON(w, status, map[string]any{"error": viewProblem(refusal.Problem)})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": problemView{Severity: config.Error, Code: code, Message: message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encode(v), '\n')) // a client that went away is no failure of ours
}
