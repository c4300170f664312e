//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// Load is a steady load on one URL.
type Load struct {
	URL  string `json:"url"`
	Host string `json:"host,omitempty"`
	// Rate is in requests per second.
	Rate int `json:"rate"`
}

// Counts is what a load has seen since it was last asked.
type Counts struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Failures []string       `json:"failures,omitempty"` // the first few
	Versions map[string]int `json:"versions,omitempty"` // answers by the answering version
	Pods     map[string]int `json:"pods,omitempty"`
}

// maxFailures bounds how many failures are kept in words.
const maxFailures = 20

const requestTimeout = 10 * time.Second

// running is a load that runs.
type running struct {
	load   Load
	client *http.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex // guards counts
	counts Counts
}

// drive serves the control of loads: PUT /load/NAME starts one, GET returns
// and resets its counts, DELETE ends it and returns what was left. GET /fetch
// makes one request and returns what came.
func drive(ctx context.Context, args []string) error {
	address := ":9000"
	if len(args) > 0 {
		address = args[0]
	}
	d := &driver{ctx: ctx, loads: map[string]*running{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /load/{name}", d.start)
	mux.HandleFunc("GET /load/{name}", d.take)
	mux.HandleFunc("DELETE /load/{name}", d.end)
	mux.HandleFunc("POST /fetch", d.fetch)
	mux.HandleFunc("POST /tls", peer)
	mux.HandleFunc("POST /sign", sign)
	mux.HandleFunc("GET /capture", capture)
	mux.HandleFunc("GET /token", token)
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = s.Close()
	}()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type driver struct {
	ctx   context.Context
	mu    sync.Mutex // guards loads
	loads map[string]*running
}

func (d *driver) start(w http.ResponseWriter, r *http.Request) {
	var l Load
	if err := json.NewDecoder(r.Body).Decode(&l); err != nil || l.Rate < 1 || l.URL == "" {
		http.Error(w, "want JSON with url and rate", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(d.ctx)
	run := &running{load: l, cancel: cancel, client: &http.Client{Timeout: requestTimeout, Transport: http.DefaultTransport.(*http.Transport).Clone()}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loads[r.PathValue("name")] != nil {
		cancel()
		http.Error(w, "there is a load of that name", http.StatusConflict)
		return
	}
	d.loads[r.PathValue("name")] = run
	run.done.Go(func() { run.run(ctx) })
}

func (d *driver) take(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	run := d.loads[r.PathValue("name")]
	d.mu.Unlock()
	if run == nil {
		http.Error(w, "there is no load of that name", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(run.swap())
}

func (d *driver) end(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	run := d.loads[r.PathValue("name")]
	delete(d.loads, r.PathValue("name"))
	d.mu.Unlock()
	if run == nil {
		http.Error(w, "there is no load of that name", http.StatusNotFound)
		return
	}
	run.cancel()
	run.done.Wait() // every request that was sent is counted
	_ = json.NewEncoder(w).Encode(run.swap())
}

func (r *running) swap() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	r.counts = Counts{}
	return c
}

// run sends at the load's rate whatever the answers do, so that a slow server
// cannot hide behind a slower client.
func (r *running) run(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(r.load.Rate))
	defer tick.Stop()
	var sent sync.WaitGroup
	defer sent.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			sent.Go(func() { r.one(context.WithoutCancel(ctx)) })
		}
	}
}

func (r *running) one(ctx context.Context) {
	began := time.Now()
	version, pod, err := ask(ctx, r.client, r.load)
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.counts
	c.Requests++
	if err != nil {
		c.Failed++
		if len(c.Failures) < maxFailures {
			c.Failures = append(c.Failures, fmt.Sprintf("%s (after %v): %v", began.UTC().Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
		}
		return
	}
	if c.Versions == nil {
		c.Versions, c.Pods = map[string]int{}, map[string]int{}
	}
	c.Versions[version]++
	c.Pods[pod]++
}

// ask makes one request and checks that the whole answer is the application's.
func ask(ctx context.Context, client *http.Client, l Load) (version, pod string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return "", "", err
	}
	req.Host = l.Host
	resp, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", fmt.Errorf("status %d, then: %w", resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("status %d (flags %q): %.200s", resp.StatusCode, resp.Header.Get("x-envoy-response-flags"), body)
	}
	var a echo.Answer
	if err := json.Unmarshal(body, &a); err != nil || a.Pod != resp.Header.Get(echo.PodHeader) {
		return "", "", fmt.Errorf("an answer that is not the application's: %.200s", body)
	}
	return a.Version, a.Pod, nil
}

// once makes a number of requests and ends: the work of a Job.
func once(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("once wants a URL")
	}
	for range 5 {
		if _, _, err := ask(ctx, &http.Client{Timeout: requestTimeout}, Load{URL: args[0]}); err != nil {
			return err
		}
	}
	return nil
}

// check is a probe that runs a command, for images without a shell: it looks
// for a file.
func check(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("check wants a path")
	}
	_, err := os.Stat(args[0])
	return err
}
