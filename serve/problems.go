package serve

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// problemCounts counts a Plane's Problems when it is asked.
type problemCounts struct {
	plane *Plane
	desc  *prometheus.Desc
}

func newProblemCounts(p *Plane) *problemCounts {
	return &problemCounts{p, prometheus.NewDesc("pilotfish_problems",
		"What is wrong with the configuration now, as /debug/problems lists it, by severity and code.", []string{"severity", "code"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *problemCounts) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements prometheus.Collector.
func (c *problemCounts) Collect(to chan<- prometheus.Metric) {
	type kind struct {
		severity config.Severity
		code     string
	}
	counts := map[kind]int{}
	for _, p := range c.plane.Problems() {
		counts[kind{p.Severity, p.Code}]++
	}
	for k, n := range counts {
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), k.severity.String(), k.code)
	}
}
