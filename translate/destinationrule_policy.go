package translate

import (
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
)

// Subset returns the rule's subset of that name, or nil.
func (r *Rule) Subset(name string) *networking.Subset {
	if r == nil {
		return nil
	}
	return subsetNamed(r.Spec, name)
}

// Policy is what applies to one port of the service, or of one of its subsets
// if subset is not empty. Nil if the rule says nothing. Not to be modified.
//
// Settings of a port replace those of the whole (API: they are not
// inherited); a subset's override the rule's block by block.
func (r *Rule) Policy(port uint32, subset string) *networking.TrafficPolicy {
	if r == nil {
		return nil
	}
	whole, _ := portPolicy(r.Spec.GetTrafficPolicy(), port)
	if subset == "" {
		return whole
	}
	return subsetPolicy(whole, r.Subset(subset).GetTrafficPolicy(), port)
}

// effectivePolicy is Policy over the mesh's own defaults: a block that the
// rule leaves out is the mesh's.
func effectivePolicy(mesh *meshconfig.MeshConfig, r *Rule, port uint32, subset string) *networking.TrafficPolicy {
	p := meshDefaults(mesh.GetDefaultTrafficPolicy(), r.Policy(port, ""))
	if subset == "" {
		return p
	}
	return subsetPolicy(p, r.Subset(subset).GetTrafficPolicy(), port)
}

// portPolicy picks the settings of a port, and says whether it has its own.
func portPolicy(p *networking.TrafficPolicy, port uint32) (*networking.TrafficPolicy, bool) {
	for _, s := range p.GetPortLevelSettings() {
		if s.GetPort() != nil && s.GetPort().GetNumber() == port {
			return &networking.TrafficPolicy{
				LoadBalancer: s.GetLoadBalancer(), ConnectionPool: s.GetConnectionPool(),
				OutlierDetection: s.GetOutlierDetection(), Tls: s.GetTls(),
			}, true
		}
	}
	return p, false
}

func subsetPolicy(whole, subset *networking.TrafficPolicy, port uint32) *networking.TrafficPolicy {
	if subset == nil {
		return whole
	}
	own, replaces := portPolicy(subset, port)
	if whole == nil {
		return own
	}
	out := shallowPolicy(whole)
	if own.ConnectionPool != nil || replaces {
		out.ConnectionPool = own.ConnectionPool
	}
	if own.OutlierDetection != nil || replaces {
		out.OutlierDetection = own.OutlierDetection
	}
	if own.LoadBalancer != nil || replaces {
		out.LoadBalancer = own.LoadBalancer
	}
	if own.Tls != nil || replaces {
		out.Tls = own.Tls
	}
	if own.Tunnel != nil {
		out.Tunnel = own.Tunnel
	}
	if own.ProxyProtocol != nil {
		out.ProxyProtocol = own.ProxyProtocol
	}
	if own.RetryBudget != nil {
		out.RetryBudget = own.RetryBudget
	}
	return out
}

func meshDefaults(d *meshconfig.MeshConfig_DefaultTrafficPolicy, p *networking.TrafficPolicy) *networking.TrafficPolicy {
	pool := d.GetConnectionPool() != nil && p.GetConnectionPool() == nil
	outlier := d.GetOutlierDetection() != nil && p.GetOutlierDetection() == nil
	if !pool && !outlier {
		return p
	}
	out := shallowPolicy(p)
	if pool {
		out.ConnectionPool = d.GetConnectionPool()
	}
	if outlier {
		out.OutlierDetection = d.GetOutlierDetection()
	}
	return out
}

// shallowPolicy copies what applies to every port.
func shallowPolicy(p *networking.TrafficPolicy) *networking.TrafficPolicy {
	return &networking.TrafficPolicy{
		LoadBalancer: p.GetLoadBalancer(), ConnectionPool: p.GetConnectionPool(),
		OutlierDetection: p.GetOutlierDetection(), Tls: p.GetTls(), Tunnel: p.GetTunnel(),
		ProxyProtocol: p.GetProxyProtocol(), RetryBudget: p.GetRetryBudget(),
	}
}
