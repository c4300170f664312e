package translate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
	telemetry "istio.io/api/telemetry/v1alpha1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkTelemetry(r *Report, m proto.Message) {
	t, _ := m.(*telemetry.Telemetry)
	if len(t.GetTracing())+len(t.GetMetrics())+len(t.GetAccessLogging()) == 0 {
		r.WarnAt("tracing", "NoEffect", "is empty, and so are metrics and accessLogging: the resource says nothing")
	}
}

func checkTracing(r *Report, m proto.Message) {
	t, _ := m.(*telemetry.Tracing)
	if len(t.GetProviders()) > 1 {
		r.WarnAt("providers", "NoEffect", "has %d entries; only the first that can be used counts, one tracer at a time", len(t.GetProviders()))
	}
}

func checkSampling(r *Report, v protoreflect.Value) {
	if p, ok := v.Message().Interface().(*wrapperspb.DoubleValue); ok && !(p.GetValue() >= 0 && p.GetValue() <= 100) {
		r.Errorf("OutOfRange", "is %g; want a percentage from 0 to 100", p.GetValue())
	}
}

func checkSpanTag(r *Report, v protoreflect.Value) {
	if c, ok := v.Message().Interface().(*telemetry.Tracing_CustomTag); ok {
		if fault := spanTagFault(c); fault != "" {
			r.Errorf("TagInvalid", "%s", fault)
		}
	}
}

func checkProviderName(r *Report, v protoreflect.Value) {
	if strings.TrimSpace(v.String()) == "" {
		r.Errorf("Missing", "is empty; want the name of an extensionProvider")
	}
}

func checkReportingInterval(r *Report, v protoreflect.Value) { checkDuration(r, v) }

func checkMetricSelector(r *Report, m proto.Message) {
	s, _ := m.(*telemetry.MetricSelector)
	name := s.GetCustomMetric()
	if name == "" {
		return
	}
	if _, ok := customMetric(name); !ok {
		text := "is " + shown(name) + ", which nothing makes"
		if n := nearest(strings.TrimPrefix(name, "istio_"), sortedKeys(metricNames), ""); n != "" {
			text += "; did you mean istio_" + n + "?"
		}
		r.WarnAt("customMetric", "MetricUnknown", "%s", text)
	}
}

// promLabel is the syntax of labels (Prometheus' data model).
var promLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func labelFault(name string) string {
	if !promLabel.MatchString(name) || strings.HasPrefix(name, "__") {
		return "want a Prometheus label: letters, digits and _, no digit first, not __ first"
	}
	return ""
}

func checkOverrides(r *Report, m proto.Message) {
	o, _ := m.(*telemetry.MetricsOverrides)
	for _, name := range sortedKeys(o.GetTagOverrides()) {
		t, at := o.GetTagOverrides()[name], "tagOverrides["+name+"]"
		if fault := labelFault(name); fault != "" {
			r.ErrorAt(at, "LabelInvalid", "%s", fault)
		}
		if t.GetOperation() == telemetry.MetricsOverrides_TagOverride_REMOVE {
			if t.GetValue() != "" {
				r.ErrorAt(at+".value", "ValueInvalid", "is set, but the operation is REMOVE; leave one of them out")
			}
			continue
		}
		if t.GetValue() == "" {
			r.ErrorAt(at+".value", "Missing", "is empty; want a CEL expression, or the operation REMOVE")
			continue
		}
		x := parseCEL(t.GetValue())
		if _, fault := x.format(); fault != "" {
			r.ErrorAt(at+".value", "ExpressionInvalid", "%s %s", shown(t.GetValue()), fault)
		} else if x.doubt != "" {
			r.WarnAt(at+".value", "AttributeUnknown", "%s %s; the label is \"unknown\"", shown(t.GetValue()), x.doubt)
		}
	}
}

func checkLogFilter(r *Report, v protoreflect.Value) {
	x := parseCEL(v.String())
	switch {
	case v.String() == "":
	case x.fault != "":
		r.Errorf("ExpressionInvalid", "%s %s", shown(v.String()), x.fault)
	case x.doubt != "":
		r.Warnf("AttributeUnknown", "%s %s; entries for which that matters are not written", shown(v.String()), x.doubt)
	}
}

// telemetryProblems are providers that cannot be used, and resources of which
// another one counts.
func (ix *Index) telemetryProblems() []config.Problem {
	var out []config.Problem
	first := map[string]*config.Telemetry{}
	for t := range ix.mesh.Telemetries.All() {
		out = append(out, ix.attachmentProblems(&t.Meta, t.Spec)...)
		out = append(out, ix.telemetryProviderProblems(t)...)
		if have := first[t.Namespace]; !isNarrow(t) && (have == nil || t.Before(&have.Meta)) {
			first[t.Namespace] = t
		}
	}
	for t := range ix.mesh.Telemetries.All() {
		if one := first[t.Namespace]; !isNarrow(t) && one != t {
			out = append(out, config.At(&t.Meta, "", config.Warning, "PolicyShadowed",
				"has no effect: %s is older and for the whole namespace, too; only one counts", one.Name))
		}
	}
	for _, ns := range ix.mesh.Telemetries.Namespaces() {
		list := slices.Clone(ix.mesh.Telemetries.In(ns))
		slices.SortFunc(list, func(a, b *config.Telemetry) int { return precedence(&a.Meta, &b.Meta) })
		out = append(out, overlappingPolicies(ix, ns, list, func(t *config.Telemetry) (*config.Meta, map[string]string) {
			return &t.Meta, t.Spec.GetSelector().GetMatchLabels()
		})...)
	}
	return out
}

func (ix *Index) telemetryProviderProblems(t *config.Telemetry) []config.Problem {
	var out []config.Problem
	root := ix.mesh.RootNamespace()
	check := func(field string, refs []*telemetry.ProviderRef, u use) {
		for i, ref := range refs {
			at := fmt.Sprintf("spec.%s.providers[%d].name", field, i)
			namespace := t.Namespace
			if namespace == root && len(t.Spec.GetSelector().GetMatchLabels()) == 0 {
				namespace = "" // many may use it
			}
			if code, text := ix.providerFault(ref.GetName(), u, namespace); code != "" && ref.GetName() != "" {
				out = append(out, config.At(&t.Meta, at, config.Error, code, "%s; it is left out", text))
			} else if text := ix.protocolDoubt(ref.GetName(), t.Namespace); text != "" {
				out = append(out, config.At(&t.Meta, at, config.Warning, "ProtocolMismatch", "%s", text))
			}
		}
	}
	for i, x := range t.Spec.GetTracing() {
		check(indexed("tracing", i), x.GetProviders(), useTracing)
	}
	for i, x := range t.Spec.GetMetrics() {
		check(indexed("metrics", i), x.GetProviders(), useMetrics)
	}
	for i, x := range t.Spec.GetAccessLogging() {
		check(indexed("accessLogging", i), x.GetProviders(), useLogs)
	}
	return out
}

// protocolDoubt warns of a provider that is sent gRPC on a port that is not
// said to take it.
func (ix *Index) protocolDoubt(name, namespace string) string {
	p := provider(ix.mesh.Settings.Mesh, name)
	t, ok := targetOf(p)
	if !ok || !speaksGRPC(p) {
		return ""
	}
	at, found := ix.site(t.service, t.port, namespace)
	if !found || at.port.Protocol.IsHTTP2() {
		return ""
	}
	return fmt.Sprintf("is %s, which is sent gRPC, but port %d of %s is not said to take it; name the port grpc", shown(name), t.port, shown(t.service))
}
