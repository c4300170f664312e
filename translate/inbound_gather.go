package translate

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strconv"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// InboundPort is one port that a workload serves.
type InboundPort struct {
	// Port is where connections arrive: the application's port, which a
	// Service's targetPort or a Sidecar's ingress listener names.
	Port uint32
	// Service and ServicePort are the service that says so, the oldest of
	// several; Service is nil for a Sidecar's ingress listener.
	Service     *config.Service
	ServicePort config.ServicePort
	// Ingress is the Sidecar's ingress listener, or nil.
	Ingress *networking.IstioIngressListener
	// Rule is what DestinationRules say about the service, or nil.
	Rule *Rule
}

func (p *InboundPort) addTo(h config.Hasher) {
	h.Uint(uint64(p.Port)).Str(p.ServicePort.Name, string(p.ServicePort.Protocol), p.ServicePort.TargetPortName)
	h.Uint(uint64(p.ServicePort.Number)).Uint(uint64(p.ServicePort.TargetPort))
	h.Bool(p.Service != nil).Bool(p.Ingress != nil).Bool(p.Rule != nil)
	if p.Service != nil {
		h.Str(p.Service.Hostname).Hash(p.Service.Hash)
	}
	if p.Ingress != nil {
		h.Proto(p.Ingress)
	}
	if p.Rule != nil {
		h.Hash(p.Rule.Hash)
	}
}

// gatherInbound finds the ports that the scope's workloads serve: those of
// its Sidecar's ingress listeners, or else those that Services target.
func (ix *Index) gatherInbound(s *Scope) {
	if ingress := s.ingress(); len(ingress) > 0 {
		s.Inbound = ingressPorts(ingress)
		return
	}
	if s.Class.Traits.Generator != grpcGenerator && s.Class.Traits.Interception == config.NoneMode && s.Class.Traits.Local.Outbound == "" {
		// The application has its ports itself; only a Sidecar can say which
		// others the proxy may listen on.
		return
	}
	s.Inbound = ix.servedPorts(s)
}

// ingress are the ingress listeners of the Sidecar that applies.
func (s *Scope) ingress() []*networking.IstioIngressListener {
	if s.Sidecar == nil {
		return nil
	}
	return s.Sidecar.Spec.GetIngress()
}

func ingressPorts(ingress []*networking.IstioIngressListener) []InboundPort {
	var out []InboundPort
	seen := map[uint32]bool{}
	for _, l := range ingress {
		port := l.GetPort().GetNumber()
		if seen[port] {
			continue
		}
		seen[port] = true
		out = append(out, InboundPort{
			Port: port, Ingress: l,
			ServicePort: config.ServicePort{
				Name: l.GetPort().GetName(), Number: port, Protocol: config.ParseProtocol(l.GetPort().GetProtocol()),
			},
		})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Port < out[j].Port })
	return out
}

// servedPorts are the ports that Services of the namespace target on the
// scope's workloads. The oldest Service says what a port speaks.
func (ix *Index) servedPorts(s *Scope) []InboundPort {
	names := parseLabels(s.Class.Traits.Ports)
	byPort := map[uint32]InboundPort{}
	for _, svc := range ix.servicesSelecting(s.Class.Namespace, s.Labels) {
		for _, sp := range svc.Ports {
			port := targetPort(sp, names)
			if own, err := strconv.ParseUint(names[entryPort+sp.Name], 10, 16); err == nil {
				port = uint32(own)
			}
			if port == 0 || sp.Protocol == config.ProtocolUDP {
				continue
			}
			if first, ok := byPort[port]; ok {
				s.inboundConflict(port, first, svc, sp)
				continue
			}
			byPort[port] = InboundPort{
				Port: port, Service: svc, ServicePort: sp, Rule: ix.inboundRuleFor(svc, s.Class.Namespace),
			}
		}
	}
	out := make([]InboundPort, 0, len(byPort))
	for _, port := range slices.Sorted(maps.Keys(byPort)) {
		out = append(out, byPort[port])
	}
	return out
}

// servicesSelecting are the services of a namespace that select workloads of
// these labels, the oldest first.
func (ix *Index) servicesSelecting(namespace string, labels map[string]string) []*config.Service {
	var out []*config.Service
	for _, svc := range ix.mesh.Services.In(namespace) {
		if len(svc.Selector) > 0 && config.Selects(svc.Selector, labels) {
			out = append(out, svc)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Created.Before(out[j].Created) })
	return out
}

// targetPort is the container port of a service port; 0 if it names one that
// the workload does not have.
func targetPort(sp config.ServicePort, names map[string]string) uint32 {
	switch {
	case sp.TargetPort != 0:
		return sp.TargetPort
	case sp.TargetPortName == "":
		return sp.Number
	}
	n, err := strconv.ParseUint(names[sp.TargetPortName], 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// inboundConflict reports two services that say different things of one port.
func (s *Scope) inboundConflict(port uint32, first InboundPort, svc *config.Service, sp config.ServicePort) {
	if first.Service == svc || first.ServicePort.Protocol == sp.Protocol {
		return
	}
	i := slices.IndexFunc(svc.Ports, func(p config.ServicePort) bool { return p.Number == sp.Number })
	s.problems = append(s.problems, config.At(&svc.Meta, "spec."+indexed("ports", i), config.Warning, "InboundProtocolConflict",
		"port %d targets %d as %s, which %s, the older service, declares as %s: the port is served as %s. Name the same protocol in both services",
		sp.Number, port, protocolText(sp.Protocol), first.Service.Hostname, protocolText(first.ServicePort.Protocol), protocolText(first.ServicePort.Protocol)))
}

// entryPort begins the names, in Traits.Ports, of the ports at which a
// WorkloadEntry serves services' ports of these names, whatever these target.
const entryPort = ":"

// namedPorts are the container ports of a proxy's workload whose names some
// service targets, in the form of Traits.Ports. They come from the workload
// if the mesh has it, or else from the proxy's metadata.
func (ix *Index) namedPorts(p *config.Proxy) string {
	if entry := ix.mesh.EntryPorts(p); len(entry) > 0 {
		ports := map[string]string{}
		for name, n := range entry {
			ports[name], ports[entryPort+name] = strconv.FormatUint(uint64(n), 10), strconv.FormatUint(uint64(n), 10)
		}
		return canonicalLabels(ports, slices.Sorted(maps.Keys(ports)))
	}
	if len(ix.portNames) == 0 {
		return ""
	}
	ports := map[string]string{}
	if w, ok := ix.mesh.Workloads.Get(p.Namespace, p.Name); ok {
		for name, n := range w.Ports {
			ports[name] = strconv.FormatUint(uint64(n), 10)
		}
	} else {
		var declared []struct {
			Name          string `json:"name"`
			ContainerPort uint16 `json:"containerPort"`
		}
		// Metadata that is not the list it should be names no port.
		_ = json.Unmarshal([]byte(p.Raw["POD_PORTS"]), &declared)
		for _, d := range declared {
			ports[d.Name] = strconv.FormatUint(uint64(d.ContainerPort), 10)
		}
	}
	return canonicalLabels(ports, ix.portNames)
}

// mergedKeys is the sorted union of two sorted lists.
func mergedKeys(a, b []string) []string { return sortedSet(slices.Concat(a, b)) }
