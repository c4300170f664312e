package translate

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
	typev1beta1 "istio.io/api/type/v1beta1"
)

const (
	// Each subset is a cluster for each port, in every proxy that sees the
	// rule.
	manySubsets = 100
	maxSubsets  = 1000
)

func checkDestinationRule(r *Report, m proto.Message) {
	dr := m.(*networking.DestinationRule)
	if fault := hostFault(dr.GetHost(), true); fault != "" {
		r.ErrorAt("host", "HostInvalid", "%s", fault)
	}
	first := map[string]int{}
	for i, s := range dr.GetSubsets() {
		if j, ok := first[s.GetName()]; ok {
			r.ErrorAt(indexed("subsets", i)+".name", "Duplicate", "is %s, as that of subsets[%d]; subsets need names of their own", shown(s.GetName()), j)
			continue
		}
		first[s.GetName()] = i
	}
	switch n := len(dr.GetSubsets()); {
	case n > maxSubsets:
		r.ErrorAt("subsets", "TooMany", "are %d; at most %d, since each is a cluster in every proxy", n, maxSubsets)
	case n > manySubsets:
		r.WarnAt("subsets", "TooMany", "are %d; each is a cluster for each port in every proxy that sees the rule", n)
	}
	checkExportTo(r, dr.GetExportTo(), exportRules{ownOnly: dr.GetWorkloadSelector() != nil})
}

func checkMatchLabels(r *Report, m proto.Message) {
	s := m.(*typev1beta1.WorkloadSelector)
	if len(s.GetMatchLabels()) == 0 {
		r.Warnf("SelectorEmpty", "has no matchLabels, so it selects every workload of the namespace; name labels or leave it out")
	}
	checkLabelKeys(r, "matchLabels", s.GetMatchLabels())
}

func checkSelectorValue(r *Report, v protoreflect.Value) {
	if v.String() == "" {
		return
	}
	checkLabelValue(r, v)
}

func checkSubset(r *Report, m proto.Message) {
	s := m.(*networking.Subset)
	if s.GetName() == "" || len(s.GetName()) > maxLabel || !dnsLabel.MatchString(s.GetName()) {
		r.ErrorAt("name", "NameInvalid", "is %s; want a DNS label (letters, digits and dashes, up to 63)", shown(s.GetName()))
	}
	checkLabelKeys(r, "labels", s.GetLabels())
}

func checkTrafficPolicy(r *Report, m proto.Message) {
	p := m.(*networking.TrafficPolicy)
	if proto.Size(p) == 0 {
		r.Errorf("Required", "says nothing; set at least one of its fields or leave it out")
	}
	if p.GetTunnel() != nil && p.GetProxyProtocol() != nil {
		r.Errorf("Conflict", "has both tunnel and proxyProtocol; a connection can have one of them")
	}
	checkLocalityNeeds(r, p.GetLoadBalancer(), p.GetOutlierDetection())
	first := map[uint32]int{}
	for i, s := range p.GetPortLevelSettings() {
		n := s.GetPort().GetNumber()
		if j, ok := first[n]; ok {
			r.WarnAt(indexed("portLevelSettings", i)+".port", "Duplicate", "is %d, as that of portLevelSettings[%d], which counts", n, j)
			continue
		}
		first[n] = i
	}
}

func checkPortPolicy(r *Report, m proto.Message) {
	p := m.(*networking.TrafficPolicy_PortTrafficPolicy)
	if p.GetPort().GetNumber() == 0 {
		r.ErrorAt("port", "Required", "is missing; want the number of one of the service's ports")
	}
	if p.GetLoadBalancer() == nil && p.GetConnectionPool() == nil && p.GetOutlierDetection() == nil && p.GetTls() == nil {
		r.Errorf("Required", "says nothing about the port; set at least one of its fields or leave it out")
	}
	checkLocalityNeeds(r, p.GetLoadBalancer(), p.GetOutlierDetection())
}

// checkLocalityNeeds warns of failover that can never happen: without outlier
// detection Envoy takes failing endpoints for good ones.
func checkLocalityNeeds(r *Report, lb *networking.LoadBalancerSettings, o *networking.OutlierDetection) {
	l := lb.GetLocalityLbSetting()
	if o == nil && enabled(l.GetEnabled()) && (len(l.GetFailover()) > 0 || len(l.GetFailoverPriority()) > 0) {
		r.WarnAt("loadBalancer.localityLbSetting", "OutlierDetectionMissing",
			"orders localities for failover, which needs outlierDetection beside it to notice failing endpoints")
	}
}

func checkTunnel(r *Report, m proto.Message) {
	t := m.(*networking.TrafficPolicy_TunnelSettings)
	switch t.GetProtocol() {
	case "", "CONNECT", "POST":
	default:
		r.ErrorAt("protocol", "ValueInvalid", "is %s; want CONNECT or POST", shown(t.GetProtocol()))
	}
	if fault := hostFault(t.GetTargetHost(), false); fault != "" && !isAddress(t.GetTargetHost()) {
		r.ErrorAt("targetHost", "HostInvalid", "%s", fault)
	}
	if n := t.GetTargetPort(); n < 1 || n > 65535 {
		r.ErrorAt("targetPort", "PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
}

func checkProxyProtocol(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.TrafficPolicy_ProxyProtocol_V1.Descriptor(), v)
}

func checkRetryBudget(r *Report, m proto.Message) {
	b := m.(*networking.TrafficPolicy_RetryBudget)
	if p := b.GetPercent(); p != nil && !(p.GetValue() >= 0 && p.GetValue() <= 100) {
		r.ErrorAt("percent", "OutOfRange", "is %g; want a percentage from 0 to 100", p.GetValue())
	}
}
