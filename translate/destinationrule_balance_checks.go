package translate

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	// maxMaglev and maxRing are Envoy's own bounds.
	maxMaglev = 5000011
	maxRing   = 8 << 20
)

// indexed is the path of one element of a list.
func indexed(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

func checkLoadBalancer(r *Report, m proto.Message) {
	lb := m.(*networking.LoadBalancerSettings)
	if lb.GetLocalityLbSetting() != nil && lb.GetZoneAwareLbSetting() != nil {
		r.Errorf("Conflict", "has both localityLbSetting and zoneAwareLbSetting; want one of them")
	}
	slow := "warmup"
	if lb.GetWarmup() == nil {
		slow = "warmupDurationSecs"
	}
	if lb.GetWarmup() == nil && lb.GetWarmupDurationSecs() == nil {
		return
	}
	switch {
	case lb.GetConsistentHash() != nil, lb.GetSimple() == networking.LoadBalancerSettings_RANDOM,
		lb.GetSimple() == networking.LoadBalancerSettings_PASSTHROUGH:
		r.WarnAt(slow, "NoEffect", "only counts with ROUND_ROBIN and LEAST_REQUEST")
	}
}

func checkSimple(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.LoadBalancerSettings_UNSPECIFIED.Descriptor(), v)
	if v.Enum() == networking.LoadBalancerSettings_LEAST_CONN.Number() { //nolint:staticcheck // deprecated, still in use
		r.add("", config.Info, "Deprecated", "is LEAST_CONN, the old name of LEAST_REQUEST")
	}
}

func checkConsistentHash(r *Report, m proto.Message) {
	c := m.(*networking.LoadBalancerSettings_ConsistentHashLB)
	switch {
	case c.GetHashKey() == nil:
		r.Warnf("Required", "says not what to hash, so requests are spread at random; want one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName")
	case isEmptyKey(c):
		r.Errorf("Required", "names no header or query parameter to hash")
	}
	size := c.GetMinimumRingSize() //nolint:staticcheck // deprecated, still in use
	if size == 0 {
		return
	}
	r.add("minimumRingSize", config.Info, "Deprecated", "is the old place; want ringHash.minimumRingSize")
	if c.GetHashAlgorithm() != nil {
		r.ErrorAt("minimumRingSize", "Conflict", "is set beside ringHash or maglev; want one of them")
	}
	if size > maxRing {
		r.ErrorAt("minimumRingSize", "OutOfRange", "is %d; want at most %d", size, maxRing)
	}
}

func isEmptyKey(c *networking.LoadBalancerSettings_ConsistentHashLB) bool {
	switch k := c.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		return k.HttpHeaderName == ""
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		return k.HttpQueryParameterName == ""
	}
	return false
}

func checkRingSize(r *Report, v protoreflect.Value) {
	if v.Uint() > maxRing {
		r.Errorf("OutOfRange", "is %d; want at most %d", v.Uint(), maxRing)
	}
}

func checkMaglev(r *Report, m proto.Message) {
	n := m.(*networking.LoadBalancerSettings_ConsistentHashLB_MagLev).GetTableSize()
	switch {
	case n == 0:
		r.ErrorAt("tableSize", "Required", "is missing; want a prime number, such as 65537")
	case n > maxMaglev || !isPrime(n):
		r.ErrorAt("tableSize", "OutOfRange", "is %d; want a prime number up to %d", n, maxMaglev)
	}
}

// isPrime is called with numbers up to maxMaglev only.
func isPrime(n uint64) bool {
	if n < 2 {
		return false
	}
	for f := uint64(2); f*f <= n; f++ {
		if n%f == 0 {
			return false
		}
	}
	return true
}

func checkCookie(r *Report, m proto.Message) {
	c := m.(*networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie)
	if c.GetName() == "" {
		r.ErrorAt("name", "Required", "is missing; want the cookie's name")
	}
	seen := map[string]bool{}
	for i, a := range c.GetAttributes() {
		switch {
		case a.GetName() == "":
			r.ErrorAt(indexed("attributes", i)+".name", "Required", "is missing")
		case seen[a.GetName()]:
			r.ErrorAt(indexed("attributes", i)+".name", "Duplicate", "is %s, which is there already", shown(a.GetName()))
		}
		seen[a.GetName()] = true
	}
}

// checkNotNegativeDuration is for a cookie's lifetime: 0s makes it last for
// the session.
func checkNotNegativeDuration(r *Report, v protoreflect.Value) {
	if d := durationOf(v); d < 0 {
		r.Errorf("DurationInvalid", "is %s; want 0s or more", d)
	}
}

func checkWarmup(r *Report, m proto.Message) {
	w := m.(*networking.WarmupConfiguration)
	if w.GetDuration() == nil {
		r.ErrorAt("duration", "Required", "is missing; want a time such as 60s")
	}
	if p := w.GetMinimumPercent(); p != nil && !(p.GetValue() >= 0 && p.GetValue() <= 100) {
		r.ErrorAt("minimumPercent", "OutOfRange", "is %g; want a percentage from 0 to 100", p.GetValue())
	}
	if a := w.GetAggression(); a != nil && !(a.GetValue() > 0 && !math.IsInf(a.GetValue(), 1)) {
		r.ErrorAt("aggression", "OutOfRange", "is %g; want more than 0, 1 for linear growth", a.GetValue())
	}
}

func checkZoneAware(r *Report, _ protoreflect.Value) {
	r.add("", config.Info, "NeedsSelfDiscovery", "spreads over zones only in proxies that discover themselves (ISTIO_META_ENABLE_SELF_DISCOVERY); regions count in all")
}

func checkLocalitySetting(r *Report, m proto.Message) {
	l := m.(*networking.LocalityLoadBalancerSetting)
	if len(l.GetDistribute()) > 0 && len(l.GetFailover()) > 0 {
		r.Errorf("Conflict", "has both distribute and failover; want one of them")
	}
	if len(l.GetFailover()) > 0 {
		for i, p := range l.GetFailoverPriority() {
			if isTopologyLabel(p) {
				r.ErrorAt(indexed("failoverPriority", i), "Conflict", "is %s, which failover decides already", shown(p))
			}
		}
	}
	var from []string
	for _, d := range l.GetDistribute() {
		from = append(from, d.GetFrom())
	}
	if a, b, overlap := overlapping(from); overlap {
		r.ErrorAt("distribute", "Conflict", "has entries from %s and %s, which overlap", shown(a), shown(b))
	}
}

func isTopologyLabel(s string) bool { return s == labelRegion || s == labelZone || s == labelSubzone }

func checkDistribute(r *Report, m proto.Message) {
	d := m.(*networking.LocalityLoadBalancerSetting_Distribute)
	if fault := localityFault(d.GetFrom()); fault != "" {
		r.ErrorAt("from", "LocalityInvalid", "%s", fault)
	}
	sum := uint64(0)
	for _, to := range sortedKeys(d.GetTo()) {
		w := d.GetTo()[to]
		sum += uint64(w)
		if fault := localityFault(to); fault != "" {
			r.ErrorAt("to", "LocalityInvalid", "%s", fault)
		}
		if w < 1 || w > 100 {
			r.ErrorAt("to["+to+"]", "OutOfRange", "is %d; want a weight from 1 to 100", w)
		}
	}
	if sum != 100 {
		r.ErrorAt("to", "WeightsInvalid", "add up to %d; want 100", sum)
	}
	if a, b, overlap := overlapping(sortedKeys(d.GetTo())); overlap {
		r.ErrorAt("to", "Conflict", "has %s and %s, which overlap", shown(a), shown(b))
	}
}

func localityFault(l string) string {
	for _, part := range strings.SplitN(l, "/", 3) {
		if part == "" {
			return fmt.Sprintf("is %s; want region/zone/subzone without empty parts", shown(l))
		}
	}
	if i := strings.Index(l, "*"); i >= 0 && i != len(l)-1 {
		return fmt.Sprintf("is %s; a \"*\" can only be the last part", shown(l))
	}
	return ""
}

// overlapping finds two localities of which one covers the other.
func overlapping(list []string) (string, string, bool) {
	for i, a := range list {
		for _, b := range list[i+1:] {
			pa, pb := localityPrefix(a), localityPrefix(b)
			if strings.HasPrefix(pa, pb) || strings.HasPrefix(pb, pa) {
				return a, b, true
			}
		}
	}
	return "", "", false
}

// localityPrefix is what every locality that l covers begins with, each part
// ended by "/".
func localityPrefix(l string) string {
	l = strings.TrimSuffix(strings.TrimSuffix(l, "*"), "/")
	if l == "" {
		return ""
	}
	return l + "/"
}

func checkFailover(r *Report, m proto.Message) {
	f := m.(interface {
		GetFrom() string
		GetTo() string
	})
	checkRegion(r, "from", f.GetFrom())
	checkRegion(r, "to", f.GetTo())
	if f.GetFrom() == f.GetTo() && f.GetFrom() != "" {
		r.Errorf("Conflict", "is from %s to itself; want two regions", shown(f.GetFrom()))
	}
}

func checkRegion(r *Report, field, region string) {
	switch {
	case region == "":
		r.WarnAt(field, "Required", "is missing; want a region")
	case strings.ContainsAny(region, "/*"):
		r.ErrorAt(field, "LocalityInvalid", "is %s; want a region only", shown(region))
	}
}

// checkPriorityLabel is for label or label=value.
func checkPriorityLabel(r *Report, v protoreflect.Value) {
	key, _, _ := strings.Cut(v.String(), "=")
	if !isLabelKey(key) {
		r.Errorf("LabelInvalid", "is %s; want a label, or label=value", shown(v.String()))
	}
}

func checkZoneAwareSetting(r *Report, m proto.Message) {
	z := m.(*networking.ZoneAwareLoadBalancerSetting)
	for i, p := range z.GetFailoverPriority() {
		if isTopologyLabel(p) {
			r.ErrorAt(indexed("failoverPriority", i), "Conflict", "is %s, which zone-aware balancing decides already", shown(p))
		}
	}
}
