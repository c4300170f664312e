package registration

import "github.com/prometheus/client_golang/prometheus"

// metrics have the names that they have at istiod.
type metrics struct{ success, updates, unregistered, deletes, errors prometheus.Counter }

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "auto_registration_" + name, Help: help})
		if r != nil {
			r.MustRegister(c)
		}
		return c
	}
	return &metrics{
		success:      counter("success_total", "WorkloadEntries made for proxies."),
		updates:      counter("updates_total", "WorkloadEntries taken over when their proxy came back."),
		unregistered: counter("unregister_total", "Registered proxies that went away."),
		deletes:      counter("deletes_total", "WorkloadEntries cleaned up since their proxy did not come back."),
		errors:       counter("errors_total", "Registrations that were refused or failed, and failed writes."),
	}
}
