package discovery

import (
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// unixPrefix marks the address of a Unix socket.
const unixPrefix = "unix://"

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// entryEndpoints adds a ServiceEntry's endpoints: those it lists, the
// workloads that it selects, or, when Envoy resolves names and it has neither,
// the host itself.
func (d *derivation) entryEndpoints(all endpointList, s *config.Service, e entry) {
	switch dns := s.Resolution == config.ResolveDNS || s.Resolution == config.ResolveDNSRoundRobin; {
	case e.spec.GetWorkloadSelector() != nil:
		d.selectedWorkloads(all, e, dns)
	case len(e.spec.GetEndpoints()) > 0:
		for _, w := range e.spec.GetEndpoints() {
			i := d.inlineInstance(e, w)
			addEntryPortsOf(all, e, i, i.IPs)
		}
	case dns && !strings.HasPrefix(s.Hostname, "*"):
		i := &instance{Workload: &config.Workload{}}
		i.endpoint = config.Endpoint{Workload: e.Meta.Name, Namespace: e.Meta.Namespace}
		addEntryPortsOf(all, e, i, []string{s.Hostname})
	}
}

// inlineInstance is one of a ServiceEntry's own endpoints.
func (d *derivation) inlineInstance(e entry, w *networking.WorkloadEntry) *instance {
	return d.instanceOfEntry(&Object{Meta: config.Meta{Key: e.Meta.Key}, Body: w})
}

// addEntryPortsOf adds one workload under each port of a ServiceEntry. The
// workload's own ports go before the entry's targetPort; a Unix socket has
// none.
func addEntryPortsOf(all endpointList, e entry, i *instance, addresses []string) {
	if len(addresses) == 0 {
		return
	}
	for _, p := range e.spec.GetPorts() {
		c := candidate{Endpoint: i.endpoint}
		c.Address = addresses[0]
		switch own := i.Ports[p.GetName()]; {
		case strings.HasPrefix(c.Address, unixPrefix):
		case own != 0:
			c.Port = own
		case p.GetTargetPort() != 0:
			c.Port = p.GetTargetPort()
		default:
			c.Port = p.GetNumber()
		}
		if len(addresses) > 1 {
			c.MoreAddresses = addresses[1:]
		}
		all.add(p.GetName(), c)
	}
}

// selectedWorkloads adds the pods and WorkloadEntries of the namespace that a
// ServiceEntry selects. Names and sockets count only where Envoy resolves.
func (d *derivation) selectedWorkloads(all endpointList, e entry, dns bool) {
	selector := e.spec.GetWorkloadSelector().GetLabels()
	ns := e.Meta.Namespace
	for n := range d.pods.inNS[ns] {
		if i := d.pods.made[n]; i != nil && config.Selects(selector, i.Labels) {
			addEntryPortsOf(all, e, i, i.IPs)
		}
	}
	for n := range d.pods.entriesIn[ns] {
		i := d.pods.entries[n]
		if i == nil || !i.Ready || len(i.IPs) == 0 || !config.Selects(selector, i.Labels) || (!dns && !isIP(i.IPs[0])) {
			continue
		}
		addEntryPortsOf(all, e, i, i.IPs)
	}
}
