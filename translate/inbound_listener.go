package translate

import (
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// inboundListeners makes what connections to the workload come in through:
// virtualInbound, which receives every redirected one, and a listener of its
// own for each port that is not redirected.
func (b *build) inboundListeners() {
	in := &inbound{b: b, env: newListenerEnv(b.scope)}
	var redirected []*chain
	for i := range b.scope.Inbound {
		p := &b.scope.Inbound[i]
		real := in.bound(p)
		if !in.env.canBind(p.Port, real) {
			in.cannotBind(p)
			continue
		}
		addresses := in.addressesOf(p, real)
		chains := in.chainsOf(p, addresses[0], real)
		if !real {
			redirected = append(redirected, chains...)
			continue
		}
		in.env.emit(b, &draft{
			socket: socket{
				addresses: addresses, port: p.Port, bound: in.env.bindPort(p.Port, true), real: true,
			},
			direction: core.TrafficDirection_INBOUND,
			chains:    chains,
		})
	}
	if b.scope.Class.Traits.Interception != config.NoneMode {
		in.env.emit(b, in.virtualInbound(redirected))
	}
}

type inbound struct {
	b   *build
	env listenerEnv
}

// bound reports whether the port's listener is a real one
// (networking/v1alpha3 IstioIngressListener.captureMode).
func (in *inbound) bound(p *InboundPort) bool {
	switch p.Ingress.GetCaptureMode() {
	case networking.CaptureMode_NONE:
		return true
	case networking.CaptureMode_IPTABLES:
		return false
	}
	return in.env.traits.Interception == config.NoneMode
}

// addressesOf is where a port's listener binds: where its Sidecar says, or
// the proxy's own address, which leaves the loopback's to the application.
func (in *inbound) addressesOf(p *InboundPort, real bool) []string {
	switch own := in.env.traits.Addresses; {
	case p.Ingress.GetBind() != "":
		return []string{p.Ingress.GetBind()}
	case real && own != "":
		return strings.Split(own, ",")[:1]
	}
	return in.env.wildcards()
}

func (in *inbound) virtualInbound(ports []*chain) *draft {
	port := in.env.inboundPort()
	d := &draft{
		socket: socket{
			name: VirtualInboundListener, addresses: in.env.wildcards(), port: port, bound: port, real: true,
		},
		direction: core.TrafficDirection_INBOUND,
		original:  recovered,
		// A connection to the redirection port itself would come back to it
		// forever.
		chains: []*chain{{
			name: VirtualInboundBlackHole, match: chainMatch{port: port}, tcp: silent(toCluster(BlackHoleCluster)),
		}},
	}
	d.chains = append(d.chains, in.passthroughChains()...)
	d.chains = append(d.chains, ports...)
	return d
}

func (in *inbound) chainsOf(p *InboundPort, address string, real bool) []*chain {
	forms := in.formsOf(p)
	name := address + "_" + strconv.FormatUint(uint64(p.Port), 10)
	cluster := InboundCluster(p.Port)
	var out []*chain
	for _, v := range forms {
		c := &chain{name: name, match: v.match, tls: v.tls, source: in.sourceOf(p)}
		c.match.port = p.Port
		if real {
			c.match.port = 0 // the socket says it, by a number that may be another
		}
		if v.http {
			c.http = &httpChain{
				statPrefix: "inbound_" + name, from: Inbound, protocol: afterTLS(p.ServicePort.Protocol),
				inline: in.routesTo(cluster, p.hostname(in.b.scope), p.ServicePort),
			}
		} else if v.refused {
			c.tcp = silent(toCluster(BlackHoleCluster))
		} else {
			c.tcp = toCluster(cluster)
			if pattern := in.env.mesh.GetInboundClusterStatName(); pattern != "" {
				svc := p.Service
				if svc == nil {
					svc = &config.Service{Hostname: p.hostname(in.b.scope)}
				}
				c.tcp.statPrefix = statPattern(pattern, svc, p.ServicePort, p.Port, "")
			}
		}
		out = append(out, c)
	}
	return out
}

func (in *inbound) sourceOf(p *InboundPort) *config.Meta {
	if p.Service != nil {
		return &p.Service.Meta
	}
	return &in.b.scope.Sidecar.Meta
}

// hostname is what traces call the port's service. A Sidecar's port has none,
// so the Sidecar's own name stands for it.
func (p *InboundPort) hostname(s *Scope) string {
	if p.Service != nil {
		return p.Service.Hostname
	}
	return s.Sidecar.Name + "." + s.Sidecar.Namespace
}

func (in *inbound) routesTo(cluster, host string, port config.ServicePort) *inlineRoutes {
	number := strconv.FormatUint(uint64(port.Number), 10)
	return &inlineRoutes{
		cluster: cluster, virtualHost: "inbound|http|" + number, operation: host + ":" + number + "/*",
		// Streams of gRPC are long, and what may be retried is buffered.
		retries: port.Protocol != config.ProtocolGRPC && port.Protocol != config.ProtocolGRPCWeb,
	}
}

func (in *inbound) cannotBind(p *InboundPort) {
	in.b.problems = append(in.b.problems, config.At(in.sourceOf(p), "spec", config.Warning, "PrivilegedPort",
		"the proxy may not bind port %d, which is below 1024, so it does not listen there. Use a port above 1023, or let the pod bind low ports", p.Port))
}
