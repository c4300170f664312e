package pod

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// target is where a container of the application exposes metrics.
type target struct {
	Port string `json:"port"`
	Path string `json:"path"`
}

// scrapeConfig is ISTIO_PROMETHEUS_ANNOTATIONS.
type scrapeConfig struct {
	Scrape string `json:"scrape"`
	target
	Targets []target `json:"targets"`
}

// scraper merges the metrics of a pod: the agent's, Envoy's and the
// application's, one after the other. A part that fails is left out and
// counted; it never costs the others.
type scraper struct {
	client  *http.Client
	envoy   string // URL
	targets []target
	// own writes the agent's metrics in Prometheus' text format.
	own func(io.Writer)
	log *zap.Logger

	total, envoyFailed, appFailed atomic.Uint64
}

// reserved ports are the sidecar's: scraping them would go in circles.
var reserved = map[string]bool{
	"15000": true, "15001": true, "15004": true, "15006": true, "15008": true,
	"15020": true, "15021": true, "15053": true, "15090": true,
}

func newScraper(annotations string, own func(io.Writer), log *zap.Logger) (*scraper, error) {
	s := &scraper{
		client: &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}},
		envoy:  fmt.Sprintf("http://127.0.0.1:%d/stats/prometheus", agent.StatsPort), own: own, log: log,
	}
	if annotations == "" {
		return s, nil
	}
	var c scrapeConfig
	if err := json.Unmarshal([]byte(annotations), &c); err != nil {
		return nil, fmt.Errorf("environment ISTIO_PROMETHEUS_ANNOTATIONS: %w", err)
	}
	if c.Scrape == "false" {
		return s, nil
	}
	s.targets = c.Targets
	if len(s.targets) == 0 {
		s.targets = []target{c.target}
	}
	for i := range s.targets {
		t := &s.targets[i]
		if t.Port == "" {
			t.Port = "80"
		}
		if t.Path == "" {
			t.Path = "/metrics"
		}
		if !strings.HasPrefix(t.Path, "/") {
			t.Path = "/" + t.Path
		}
		if reserved[t.Port] {
			return nil, fmt.Errorf("annotation prometheus.io/port=%s: this port is the sidecar's; name the application's", t.Port)
		}
	}
	return s, nil
}

// A pod's parts answer in this form; OpenMetrics could not be concatenated.
const textFormat = "text/plain; version=0.0.4"

func (s *scraper) serve(w http.ResponseWriter, r *http.Request) {
	s.total.Add(1)
	ctx, cancel := context.WithTimeout(r.Context(), scrapeTimeout(r))
	defer cancel()
	// Slow parts are asked at the same time.
	envoy := s.start(ctx, r, s.envoy+query(r))
	apps := make([]<-chan answer, len(s.targets))
	for i, t := range s.targets {
		apps[i] = s.start(ctx, r, "http://"+net.JoinHostPort("localhost", t.Port)+t.Path)
	}
	w.Header().Set("Content-Type", textFormat+"; charset=utf-8")
	if s.own != nil {
		s.own(w)
	}
	s.copy(w, <-envoy, &s.envoyFailed, "Envoy")
	for _, a := range apps {
		s.copy(w, <-a, &s.appFailed, "the application")
	}
}

func query(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return "?" + r.URL.RawQuery
}

// scrapeTimeout is what Prometheus says, less a little to answer in.
func scrapeTimeout(r *http.Request) time.Duration {
	sec, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || sec <= 0 {
		return 10 * time.Second
	}
	return time.Duration(sec * 0.95 * float64(time.Second))
}

type answer struct {
	resp *http.Response
	err  error
}

func (s *scraper) start(ctx context.Context, r *http.Request, url string) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			out <- answer{err: err}
			return
		}
		req.Header.Set("Accept", textFormat)
		for _, h := range []string{"User-Agent", "X-Prometheus-Scrape-Timeout-Seconds"} {
			if v := r.Header.Get(h); v != "" {
				req.Header.Set(h, v)
			}
		}
		resp, err := s.client.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			err = errors.New(resp.Status)
		}
		out <- answer{resp, err}
	}()
	return out
}

// copy passes lines on; the end mark of OpenMetrics is dropped, since more may
// follow.
func (s *scraper) copy(w io.Writer, a answer, failed *atomic.Uint64, who string) {
	err := a.err
	if err == nil {
		err = copyLines(w, a.resp.Body)
		_ = a.resp.Body.Close()
	}
	if err != nil {
		failed.Add(1)
		s.log.Warn("metrics of "+who+" are missing from an answer", zap.Error(err))
	}
}

func copyLines(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 16<<10)
	whole := true // at the start of a line
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && (!whole || strings.TrimRight(string(line), "\r\n") != "# EOF") {
			if _, werr := w.Write(line); werr != nil {
				return werr
			}
			whole = line[len(line)-1] == '\n'
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			whole = false
		case errors.Is(err, io.EOF):
			if !whole {
				_, err = w.Write([]byte{'\n'})
				return err
			}
			return nil
		case err != nil:
			return err
		}
	}
}
