package inject

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"istio.io/api/annotation"
)

// scrapeEnv tells the agent where the application's own metrics are.
const scrapeEnv = "ISTIO_PROMETHEUS_ANNOTATIONS"

// scraping is what annotations ask of Prometheus.
type scraping struct {
	Scrape  string   `json:"scrape"`
	Path    string   `json:"path"`
	Port    string   `json:"port"`
	Targets []target `json:"targets,omitempty"`
}

type target struct {
	Port string `json:"port"`
	Path string `json:"path"`
}

// reservedPorts are the proxy's own: their metrics are merged already, or they
// have none.
var reservedPorts = map[int]string{
	15000: "Envoy's admin interface", 15001: "outbound traffic", 15004: "debugging", 15006: "inbound traffic",
	15008: "tunnels", 15020: "the agent", 15021: "the proxy's readiness", 15053: "DNS", 15090: "Envoy's metrics, which are merged anyway",
}

// mergeMetrics points Prometheus at the agent, which answers with the proxy's
// metrics and those of the application, where its annotations said they were.
func (in *Injector) mergeMetrics(pod Object, statusPort int64) error {
	if !in.mergesMetrics(pod) || statusPort == 0 {
		return nil
	}
	asked, err := scrapingOf(pod)
	if err != nil {
		return err
	}
	if no, err := strconv.ParseBool(asked.Scrape); err == nil && !no {
		return nil // the application does not want to be scraped
	}
	own := strconv.FormatInt(statusPort, 10)
	if asked.Port == own && len(asked.Targets) == 0 {
		return nil // it points there already
	}
	if err := asked.check(own); err != nil {
		return err
	}
	if proxy := proxyOf(pod); proxy != nil && (asked.Scrape != "" || asked.Path != "" || asked.Port != "" || len(asked.Targets) > 0) {
		b, err := json.Marshal(asked)
		if err != nil {
			return err
		}
		setEnv(proxy, scrapeEnv, string(b))
	}
	clearScraping(pod)
	notes := annotations(pod)
	notes["prometheus.io/scrape"] = "true"
	notes["prometheus.io/port"] = own
	notes["prometheus.io/path"] = "/stats/prometheus"
	return nil
}

func (in *Injector) mergesMetrics(pod Object) bool {
	if v, ok := annotationOf(pod, annotation.PrometheusMergeMetrics.Name); ok {
		merge, err := strconv.ParseBool(v)
		return err == nil && merge
	}
	merge := in.mesh.GetEnablePrometheusMerge()
	return merge == nil || merge.GetValue()
}

// asLabel is how Prometheus names an annotation in its labels:
// prometheus.io/port and prometheus-io/port are the same to it.
func asLabel(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

func scrapingOf(pod Object) (s scraping, err error) {
	for name, v := range annotations(pod) {
		value, _ := v.(string)
		switch asLabel(name) {
		case "prometheus_io_scrape":
			s.Scrape = value
		case "prometheus_io_path":
			s.Path = value
		case "prometheus_io_port":
			s.Port = value
		case "prometheus_istio_io_scrape_targets":
			s.Targets, err = targets(name, value)
		}
	}
	if err == nil && len(s.Targets) > 0 {
		// For agents that know of one target only.
		s.Port, s.Path = s.Targets[0].Port, s.Targets[0].Path
	}
	return s, err
}

// targets reads port:path pairs, separated by commas; the path may be left out.
func targets(name, value string) ([]target, error) {
	var out []target
	for _, e := range strings.Split(value, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		port, path, _ := strings.Cut(e, ":")
		t := target{Port: strings.TrimSpace(port), Path: strings.TrimSpace(path)}
		if t.Path == "" {
			t.Path = "/metrics"
		}
		if t.Port == "" {
			return nil, fmt.Errorf("annotation %s is %q; want port:path pairs, separated by commas", name, shortened(value))
		}
		out = append(out, t)
	}
	return out, nil
}

func (s *scraping) check(own string) error {
	all := s.Targets
	if len(all) == 0 && s.Port != "" {
		all = []target{{Port: s.Port}}
	}
	for _, t := range all {
		n, err := strconv.Atoi(t.Port)
		if err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("the pod's annotations ask Prometheus to scrape port %q; want a port from 1 to 65535", shortened(t.Port))
		}
		reason := reservedPorts[n]
		if strconv.Itoa(n) == own {
			reason = "the agent"
		}
		if reason != "" {
			return fmt.Errorf("the pod's annotations ask Prometheus to scrape port %d, which is that of %s; want a port of the application", n, reason)
		}
	}
	return nil
}

func clearScraping(pod Object) {
	notes := annotations(pod)
	for name := range notes {
		switch asLabel(name) {
		case "prometheus_io_scrape", "prometheus_io_path", "prometheus_io_port", "prometheus_istio_io_scrape_targets":
			delete(notes, name)
		}
	}
}

// restoreScraping undoes mergeMetrics in a pod that was injected before.
func restoreScraping(pod, proxy Object) {
	notes := annotations(pod)
	if text(notes, "prometheus.io/path") != "/stats/prometheus" {
		return
	}
	var s scraping
	if written, ok := env(proxy, scrapeEnv); ok && json.Unmarshal([]byte(written), &s) != nil {
		return
	}
	clearScraping(pod)
	for name, v := range map[string]string{"scrape": s.Scrape, "path": s.Path, "port": s.Port} {
		if v != "" {
			notes["prometheus.io/"+name] = v
		}
	}
	if len(s.Targets) > 0 {
		list := make([]string, len(s.Targets))
		for i, t := range s.Targets {
			list[i] = t.Port + ":" + t.Path
		}
		delete(notes, "prometheus.io/path")
		delete(notes, "prometheus.io/port")
		notes["prometheus.istio.io/scrape-targets"] = strings.Join(list, ",")
	}
}

// exposeSecurely tells Prometheus of the port that serves the merged metrics
// over mutual TLS, where the proxy's environment opens one.
func exposeSecurely(pod Object) {
	for name := range annotations(pod) {
		if asLabel(name) == "prometheus_istio_io_secure_port" {
			return
		}
	}
	if port, ok := env(proxyOf(pod), "ENVOY_SECURE_MERGED_METRICS_PORT"); ok && port != "" && port != "0" {
		annotations(pod)["prometheus.istio.io/secure-port"] = port
	}
}
