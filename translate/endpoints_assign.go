package translate

import (
	"math"
	"net/netip"
	"sort"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// group is the endpoints of one locality, or of one priority within it.
type group struct {
	locality  config.Locality
	endpoints []*config.Endpoint
	priority  uint32
	weight    uint32
	// by is what weights are divided by, so that those of all endpoints fit
	// into 32 bits together, as LbEndpoint and LocalityLbEndpoints ask for.
	by uint64
}

// assign makes a load assignment of the endpoints that the viewer may use.
// Groups come by locality, then priority, and endpoints in the order they are
// given, so that equal input gives equal bytes.
func assign(spec *EndpointSpec, eps []config.Endpoint, v Viewer) *endpoint.ClusterLoadAssignment {
	groups := spec.policy.locality.shape(spec.groups(eps, v), v)
	out := &endpoint.ClusterLoadAssignment{ClusterName: spec.Cluster}
	for _, g := range groups {
		l := &endpoint.LocalityLbEndpoints{
			Locality:            envoyLocality(g.locality),
			Priority:            g.priority,
			LoadBalancingWeight: wrapperspb.UInt32(g.weight),
		}
		for _, e := range g.endpoints {
			l.LbEndpoints = append(l.LbEndpoints, spec.lbEndpoint(e, g.weightOf(e)))
		}
		out.Endpoints = append(out.Endpoints, l)
	}
	return out
}

// groups picks the endpoints by subset, health and reach, by locality.
func (s *EndpointSpec) groups(eps []config.Endpoint, v Viewer) []*group {
	admitted := make([]*config.Endpoint, 0, len(eps))
	var sum uint64
	for i := range eps {
		if e := &eps[i]; config.Selects(s.Subset, e.Labels) && s.policy.admits(e, v) {
			admitted = append(admitted, e)
			sum += uint64(max(e.Weight, 1))
		}
	}
	by := uint64(1)
	if sum > math.MaxUint32 {
		by = sum/(math.MaxUint32/2) + 1 // half of the room, for those that are rounded up
	}
	byLocality := map[config.Locality]*group{}
	var out []*group
	for _, e := range admitted {
		g, ok := byLocality[e.Locality]
		if !ok {
			g = &group{locality: e.Locality, by: by}
			byLocality[e.Locality] = g
			out = append(out, g)
		}
		g.add(e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].locality.String() < out[j].locality.String() })
	return out
}

func (g *group) add(e *config.Endpoint) {
	g.endpoints = append(g.endpoints, e)
	g.weight += g.weightOf(e)
}

func (g *group) weightOf(e *config.Endpoint) uint32 {
	return max(uint32(uint64(e.Weight)/g.by), 1) //nolint:gosec // by is 1 or more
}

func (p *endpointPolicy) admits(e *config.Endpoint, v Viewer) bool {
	switch {
	case p.nodeLocal && (e.Node != v.Node || e.Cluster != v.Cluster),
		p.clusterLocal && e.Cluster != v.Cluster,
		p.meshTLSOnly && !p.takesMeshTLS(e),
		p.resolved && isName(e.Address):
		return false
	}
	switch p.health(e) {
	case config.Draining:
		return p.keepDraining
	case config.Unhealthy:
		return !p.hideUnready
	}
	return true
}

// takesMeshTLS reports whether an endpoint has a sidecar and no policy that
// switches mesh TLS off.
func (p *endpointPolicy) takesMeshTLS(e *config.Endpoint) bool {
	return e.MTLS && p.peers.takesMeshTLS(e.Labels, e.Port)
}

func (p *endpointPolicy) health(e *config.Endpoint) config.Health {
	switch {
	case e.Health == config.Draining || e.Labels[labelDraining] != "":
		return config.Draining
	case p.allReady:
		return config.Healthy
	}
	return e.Health
}

func (s *EndpointSpec) lbEndpoint(e *config.Endpoint, weight uint32) *endpoint.LbEndpoint {
	out := &endpoint.LbEndpoint{
		LoadBalancingWeight: wrapperspb.UInt32(weight),
		Metadata:            endpointMetadata(e, s.policy.takesMeshTLS(e)),
	}
	switch s.policy.health(e) {
	case config.Unhealthy:
		out.HealthStatus = core.HealthStatus_UNHEALTHY
	case config.Draining:
		out.HealthStatus = core.HealthStatus_DRAINING
	default:
		out.HealthStatus = core.HealthStatus_HEALTHY
	}
	at := &endpoint.Endpoint{Address: endpointAddress(e.Address, e.Port)}
	for _, more := range e.MoreAddresses {
		at.AdditionalAddresses = append(at.AdditionalAddresses, &endpoint.Endpoint_AdditionalAddress{
			Address: endpointAddress(more, e.Port),
		})
	}
	out.HostIdentifier = &endpoint.LbEndpoint_Endpoint{Endpoint: at}
	return out
}

func endpointAddress(address string, port uint32) *core.Address {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: path}}}
	}
	return socketAddress(address, port)
}

// isName reports whether an endpoint's address must be resolved.
func isName(address string) bool {
	if strings.HasPrefix(address, "unix://") {
		return false
	}
	_, err := netip.ParseAddr(address)
	return err != nil
}

func envoyLocality(l config.Locality) *core.Locality {
	if l == (config.Locality{}) {
		return &core.Locality{}
	}
	return &core.Locality{Region: l.Region, Zone: l.Zone, SubZone: l.Subzone}
}

// endpointMetadata tells the proxy which workload it talks to, for metrics,
// and whether it accepts mesh TLS.
func endpointMetadata(e *config.Endpoint, meshTLS bool) *core.Metadata {
	m := &core.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	if meshTLS {
		m.FilterMetadata["envoy.transport_socket_match"] = &structpb.Struct{Fields: map[string]*structpb.Value{
			tlsModeKey: structpb.NewStringValue(tlsModeIstio),
		}}
	}
	name, revision := canonicalService(e)
	workload := strings.Join([]string{workloadName(e), e.Namespace, name, revision, e.Cluster}, ";")
	m.FilterMetadata[provenanceFilter] = &structpb.Struct{Fields: map[string]*structpb.Value{
		"workload": structpb.NewStringValue(workload),
	}}
	return m
}

// canonicalService is how metrics name a workload's service and version; the
// default version is left out.
func canonicalService(e *config.Endpoint) (name, revision string) {
	name = firstLabel(e.Labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
	if name == "" {
		name = workloadName(e)
	}
	revision = firstLabel(e.Labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
	if revision == "latest" {
		revision = ""
	}
	return name, revision
}

func firstLabel(labels map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return ""
}

// workloadName is the Deployment's name for its pods, which carry the hash of
// their template in label and name.
func workloadName(e *config.Endpoint) string {
	if hash := e.Labels["pod-template-hash"]; hash != "" {
		if i := strings.Index(e.Workload, "-"+hash); i > 0 {
			return e.Workload[:i]
		}
	}
	return e.Workload
}
