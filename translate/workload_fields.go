package translate

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

// probeHeader is what Kubernetes takes for a probe's header.
var probeHeader = regexp.MustCompile(`^[-_A-Za-z0-9]+$`)

func workloadTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.WorkloadEntry", Check: checkWorkloadEntry, Fields: []Field{
			{Name: "address", Feature: "the workload's address", Case: "serviceentry/endpoints"},
			{Name: "ports", Feature: "the workload's ports by the service's names", Case: "serviceentry/endpoints", Check: checkPort},
			{Name: "labels", Feature: "subsets and selectors", Case: "serviceentry/workloadSelector", Check: checkLabelValue},
			{Name: "network", Feature: "the workload's network", Case: "serviceentry/endpoints-network"},
			{Name: "locality", Feature: "the workload's locality", Case: "serviceentry/endpoints-locality", Check: checkWorkloadLocality},
			{Name: "weight", Feature: "the workload's weight", Case: "serviceentry/endpoints-weight"},
			{Name: "service_account", Feature: "the workload's identity", Case: "serviceentry/endpoints-serviceAccount"},
		}},
		{Message: "istio.networking.v1alpha3.WorkloadGroup", Check: checkWorkloadGroup, Fields: []Field{
			{Name: "metadata", Feature: "labels and annotations of registered workloads", Case: "serviceentry/workloadGroup"},
			{Name: "template", Feature: "WorkloadEntries of registered workloads", Case: "serviceentry/workloadGroup"},
			{Name: "probe", Feature: "the agent's health checks", Case: "serviceentry/workloadGroup-probe"},
		}},
		{Message: "istio.networking.v1alpha3.WorkloadGroup.ObjectMeta", Check: checkGroupMeta, Fields: []Field{
			{Name: "labels", Feature: "labels of registered workloads", Case: "serviceentry/workloadGroup", Check: checkLabelValue},
			{Name: "annotations", Feature: "annotations of registered workloads", Case: "serviceentry/workloadGroup"},
		}},
		{Message: "istio.networking.v1alpha3.ReadinessProbe", Check: checkProbe, Fields: []Field{
			{Name: "initial_delay_seconds", Feature: "time before the first check", Case: "serviceentry/workloadGroup-probe", Check: checkNotNegative},
			{Name: "timeout_seconds", Feature: "time to answer", Case: "serviceentry/workloadGroup-probe", Check: checkNotNegative},
			{Name: "period_seconds", Feature: "time between checks", Case: "serviceentry/workloadGroup-probe", Check: checkNotNegative},
			{Name: "success_threshold", Feature: "answers until healthy", Case: "serviceentry/workloadGroup-probe", Check: checkNotNegative},
			{Name: "failure_threshold", Feature: "failures until unhealthy", Case: "serviceentry/workloadGroup-probe", Check: checkNotNegative},
			{Name: "http_get", Feature: "HTTP check", Case: "serviceentry/workloadGroup-probe"},
			{Name: "tcp_socket", Feature: "TCP check", Case: "serviceentry/workloadGroup-probe-tcpSocket"},
			{Name: "exec", Feature: "command check", Case: "serviceentry/workloadGroup-probe-exec"},
			{Name: "grpc", Feature: "gRPC check", Case: "serviceentry/workloadGroup-probe-grpc"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPHealthCheckConfig", Check: checkHTTPProbe, Fields: []Field{
			{Name: "path", Feature: "path to ask for", Case: "serviceentry/workloadGroup-probe"},
			{Name: "port", Feature: "port to ask at", Case: "serviceentry/workloadGroup-probe", Check: checkPort},
			{Name: "host", Feature: "host to ask", Case: "serviceentry/workloadGroup-probe"},
			{Name: "scheme", Feature: "HTTP or HTTPS", Case: "serviceentry/workloadGroup-probe"},
			{Name: "http_headers", Feature: "headers to ask with", Case: "serviceentry/workloadGroup-probe"},
		}},
		{Message: "istio.networking.v1alpha3.HTTPHeader", Check: checkProbeHeader, Fields: []Field{
			{Name: "name", Feature: "the header's name", Case: "serviceentry/workloadGroup-probe"},
			{Name: "value", Feature: "the header's value", Case: "serviceentry/workloadGroup-probe"},
		}},
		{Message: "istio.networking.v1alpha3.TCPHealthCheckConfig", Check: checkProbePort, Fields: []Field{
			{Name: "host", Feature: "host to connect to", Case: "serviceentry/workloadGroup-probe-tcpSocket"},
			{Name: "port", Feature: "port to connect to", Case: "serviceentry/workloadGroup-probe-tcpSocket", Check: checkPort},
		}},
		{Message: "istio.networking.v1alpha3.ExecHealthCheckConfig", Check: checkExecProbe, Fields: []Field{
			{Name: "command", Feature: "command to run", Case: "serviceentry/workloadGroup-probe-exec"},
		}},
		{Message: "istio.networking.v1alpha3.GrpcHealthCheckConfig", Check: checkProbePort, Fields: []Field{
			{Name: "port", Feature: "port to ask at", Case: "serviceentry/workloadGroup-probe-grpc", Check: checkPort},
			{Name: "service", Feature: "service to ask for", Case: "serviceentry/workloadGroup-probe-grpc"},
		}},
	}
}

// checkWorkloadEntry also runs for the endpoints of a ServiceEntry, whose
// resolution says more about addresses, and for the template of a
// WorkloadGroup, which has none.
func checkWorkloadEntry(r *Report, m proto.Message) {
	e := m.(*networking.WorkloadEntry)
	checkLabelKeys(r, "labels", e.GetLabels())
	for _, name := range sortedKeys(e.GetPorts()) {
		if len(name) > maxLabel || !dnsLabel.MatchString(name) {
			r.ErrorAt("ports", "NameInvalid", "has %s; want the name of a service's port", shown(name))
		}
	}
	if r.Meta().Kind == "WorkloadGroup" {
		return
	}
	a := e.GetAddress()
	p, unix := strings.CutPrefix(a, "unix://")
	switch {
	case a == "" && e.GetNetwork() == "":
		r.ErrorAt("address", "Required", "is missing; want an IP address, a host name or unix:///path")
	case a == "":
		r.WarnAt("address", "AddressMissing", "is missing, so the workload is only reached through a gateway of network %s", shown(e.GetNetwork()))
	case unix:
		if fault := socketFault(p); fault != "" {
			r.ErrorAt("address", "AddressInvalid", "%s", fault)
		}
		if len(e.GetPorts()) > 0 {
			r.ErrorAt("ports", "Conflict", "are set, but a Unix socket has none")
		}
	case r.Meta().Kind == "WorkloadEntry" && !isAddress(a):
		if fault := hostFault(a, false); fault != "" {
			r.ErrorAt("address", "AddressInvalid", "%s; want an IP address, a host name or unix:///path", fault)
		}
	}
}

func checkWorkloadLocality(r *Report, v protoreflect.Value) {
	if n := strings.Count(v.String(), "/"); n > 2 || strings.Contains(v.String(), "*") {
		r.Warnf("LocalityInvalid", "is %s; want region/zone/subzone", shown(v.String()))
	}
}

func checkWorkloadGroup(r *Report, m proto.Message) {
	if m.(*networking.WorkloadGroup).GetTemplate() == nil {
		r.ErrorAt("template", "Required", "is missing; want what registered workloads have in common")
	}
}

func checkGroupMeta(r *Report, m proto.Message) {
	checkLabelKeys(r, "labels", m.(*networking.WorkloadGroup_ObjectMeta).GetLabels())
}

func checkProbe(r *Report, m proto.Message) {
	if m.(*networking.ReadinessProbe).GetHealthCheckMethod() == nil {
		r.Errorf("Required", "checks nothing; want httpGet, tcpSocket, exec or grpc")
	}
}

func checkHTTPProbe(r *Report, m proto.Message) {
	h := m.(*networking.HTTPHealthCheckConfig)
	checkProbePort(r, m)
	switch h.GetScheme() {
	case "", "HTTP", "HTTPS":
	default:
		r.ErrorAt("scheme", "ValueInvalid", "is %s; want HTTP or HTTPS", shown(h.GetScheme()))
	}
}

func checkProbeHeader(r *Report, m proto.Message) {
	if name := m.(*networking.HTTPHeader).GetName(); !probeHeader.MatchString(name) {
		r.ErrorAt("name", "NameInvalid", "is %s; want a header's name (letters, digits, '-' and '_')", shown(name))
	}
}

// checkProbePort is for the probes that need a port; a wrong number is
// reported by checkPort.
func checkProbePort(r *Report, m proto.Message) {
	if m.(interface{ GetPort() uint32 }).GetPort() == 0 {
		r.ErrorAt("port", "Required", "is missing; want the port that the application serves")
	}
}

func checkExecProbe(r *Report, m proto.Message) {
	if len(m.(*networking.ExecHealthCheckConfig).GetCommand()) == 0 {
		r.ErrorAt("command", "Required", "is empty; want the command and its arguments")
	}
}
