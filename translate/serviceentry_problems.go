package translate

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// serviceEntryProblems are what ServiceEntries ask for that is not there. Who
// has a host that several define is settled, and reported, where services are
// derived.
func (ix *Index) serviceEntryProblems() []config.Problem {
	var out []config.Problem
	for e := range ix.mesh.ServiceEntries.All() {
		out = append(out, ix.entryProblems(e)...)
	}
	return out
}

func (ix *Index) entryProblems(e *config.ServiceEntry) []config.Problem {
	var out []config.Problem
	selects := e.Spec.GetWorkloadSelector() != nil
	for i, h := range e.Spec.GetHosts() {
		field := "spec." + indexed("hosts", i)
		eps, ok := ix.mesh.Endpoints.Get(e.Namespace, plainHost(h))
		if !ok {
			continue
		}
		n := 0
		for _, list := range eps.ByPort {
			n = max(n, len(list))
		}
		switch r := e.Spec.GetResolution(); {
		case n == 0 && selects:
			out = append(out, config.At(&e.Meta, "spec.workloadSelector", config.Warning, "NoEndpoints",
				"selects no Pod or WorkloadEntry of namespace %s: requests to %s fail with 503", e.Namespace, h))
		case n == 0 && r == networking.ServiceEntry_STATIC:
			out = append(out, config.At(&e.Meta, field, config.Warning, "NoEndpoints",
				"%s has no endpoints: requests to it fail with 503; resolution STATIC needs endpoints or a workloadSelector", h))
		case n > 1 && selects && r == networking.ServiceEntry_DNS_ROUND_ROBIN:
			out = append(out, config.At(&e.Meta, "spec.workloadSelector", config.Warning, "TooMany",
				"selects %d workloads, of which resolution DNS_ROUND_ROBIN uses the first; want DNS", n))
		}
	}
	return out
}
