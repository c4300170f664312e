package translate_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestDrawnClusters: whatever DestinationRules pass their checks, for services
// of every kind, a real Envoy takes the clusters and assignments that they make.
func TestDrawnClusters(t *testing.T) {
	envoytest.Binary(t)
	meshes := 60
	if testing.Short() {
		meshes = 10
	}
	var clusters []any
	taken := 0
	for seed := range meshes {
		d := drawn{rand.New(rand.NewPCG(uint64(seed), 11))}
		b := config.NewBuilder(d.mesh())
		for i := range 6 {
			name := fmt.Sprint("rule", i)
			for range 10 { // until one passes
				rule := d.destinationRule(i)
				if put(b, func(m *config.Mesh) *config.Index[*config.DestinationRule] { return &m.DestinationRules }, "DestinationRule", name, rule) {
					taken++
					break
				}
			}
		}
		m := b.Mesh()
		ix := translate.NewIndex(m)
		ix.Problems()
		for _, p := range d.proxies() {
			clusters = append(clusters, drawnClusters(t, ix, m, p, len(clusters))...)
		}
	}
	if taken < 3*meshes {
		t.Errorf("only %d rules of %d passed their checks", taken, 6*meshes)
	}
	t.Logf("%d rules, %d clusters", taken, len(clusters))
	takenByEnvoy(t, clusters)
}

// drawnClusters are a proxy's clusters, each with its assignment in it, under
// names that no other has.
func drawnClusters(t *testing.T, ix *translate.Index, m *config.Mesh, p *config.Proxy, n int) (out []any) {
	t.Helper()
	tr := translate.NewTranslator(1000)
	for _, class := range ix.Classes(p) {
		r := tr.Translate(ix.Scope(class))
		assignments := map[string]*endpoint.ClusterLoadAssignment{}
		for i := range r.Endpoints {
			spec := &r.Endpoints[i]
			eps, _ := m.Endpoints.Get(spec.Service.Namespace, spec.Service.Hostname)
			a := &endpoint.ClusterLoadAssignment{}
			if err := proto.Unmarshal(tr.Endpoints(spec, eps, translate.ViewerOf(p)).Bytes(), a); err != nil {
				t.Fatal(err)
			}
			assignments[spec.Cluster] = a
		}
		for _, res := range r.Clusters.Items() {
			c := &cluster.Cluster{}
			if err := proto.Unmarshal(res.Bytes(), c); err != nil {
				t.Fatal(err)
			}
			if err := c.ValidateAll(); err != nil {
				t.Errorf("%s does not pass its validation: %v", res.Name, err)
			}
			c.Name = fmt.Sprint(n+len(out), " ", c.Name)
			if a := assignments[res.Name]; a != nil && c.GetType() == cluster.Cluster_EDS {
				// Envoy asks a server for it, of which there is none here.
				c.ClusterDiscoveryType = &cluster.Cluster_Type{Type: cluster.Cluster_STATIC}
				c.EdsClusterConfig, c.LoadAssignment = nil, a
			}
			stayOnMachine(c)
			uniqueCache(t, c)
			out = append(out, withType(t, c))
		}
	}
	return out
}

func (d drawn) destinationRule(i int) *networking.DestinationRule {
	rule := &networking.DestinationRule{
		Host:          pick(d, fmt.Sprintf("s%d.default.svc.cluster.local", i), fmt.Sprintf("s%d.test", i), fmt.Sprintf("*.s%d.test", i)),
		TrafficPolicy: &networking.TrafficPolicy{},
	}
	d.fill(rule.TrafficPolicy.ProtoReflect(), 0)
	if d.half() {
		rule.Subsets = []*networking.Subset{{Name: "v1", Labels: map[string]string{"app": "a"}, TrafficPolicy: &networking.TrafficPolicy{}}}
		d.fill(rule.Subsets[0].TrafficPolicy.ProtoReflect(), 0)
	}
	return rule
}

// fill sets some of a message's fields, whatever they are: to what is likely to
// pass a check, mostly.
func (d drawn) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if d.IntN(3) > 0 && depth > 0 || d.IntN(4) > 0 && depth == 0 || depth > 5 {
			continue
		}
		switch {
		case f.IsMap():
			key := protoreflect.ValueOfString(d.fillText(f)).MapKey()
			m.Mutable(f).Map().Set(key, d.value(f.MapValue(), m.Mutable(f).Map().NewValue(), depth))
		case f.IsList():
			for range 1 + d.IntN(2) {
				list := m.Mutable(f).List()
				list.Append(d.value(f, list.NewElement(), depth))
			}
		default:
			m.Set(f, d.value(f, m.NewField(f), depth))
		}
	}
}

// value draws one value of a field. zero is its empty one.
func (d drawn) value(f protoreflect.FieldDescriptor, zero protoreflect.Value, depth int) protoreflect.Value {
	number := pick[uint32](d, 0, 1, 2, 10, 50, 99, 100, 500, 1024)
	if d.rarely() {
		number = pick[uint32](d, 101, 65535, 65536, 5000011, 1<<31-1)
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		if lasting, ok := zero.Message().Interface().(*durationpb.Duration); ok {
			lasting.Seconds = int64(pick(d, 0, 1, 5, 300))
			lasting.Nanos = pick[int32](d, 0, 0, 1_000_000, 500_000_000)
			return zero
		}
		d.fill(zero.Message(), depth+1)
		return zero
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(d.IntN(values.Len())).Number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(d.fillText(f))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(d.half())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number)) //nolint:gosec // at most 2^31-1
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(number)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number) / pick(d, 1.0, 3, 10))
	}
	return zero
}

// fillText is text that a field with such a name may want. No file is among it:
// Envoy would look for it.
func (d drawn) fillText(f protoreflect.FieldDescriptor) string {
	name := string(f.Name())
	switch {
	case strings.Contains(name, "certificate") || strings.Contains(name, "key") && !strings.Contains(name, "header") || name == "ca_crl":
		return ""
	case name == "target_host" || name == "sni":
		return pick(d, "a.test", "10.0.0.1")
	case name == "protocol":
		return pick(d, "CONNECT", "POST")
	case name == "from" || name == "to":
		return pick(d, "a", "a/b", "a/b/*", "*")
	}
	return d.text()
}
