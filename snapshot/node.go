package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// ParseNode reads who a client is from the node of its first request: the id
// type~ip~name.namespace~domain and Istio's metadata. The error says what is
// wrong with it.
func ParseNode(n *core.Node) (*config.Proxy, error) {
	p, err := parseID(n.GetId())
	if err != nil {
		return nil, err
	}
	md := metadata(n.GetMetadata().GetFields())
	if ns := md.text("NAMESPACE"); ns != "" {
		p.Namespace = ns
	}
	if ips := md.list("INSTANCE_IPS"); len(ips) > 0 {
		p.IPs = ips
	}
	p.Labels = md.table("LABELS")
	p.Annotations = md.table("ANNOTATIONS")
	p.ServiceAccount = md.text("SERVICE_ACCOUNT")
	p.Cluster = md.text("CLUSTER_ID")
	p.NodeName = md.text("NODE_NAME")
	p.Network = md.text("NETWORK")
	p.Workload = md.text("WORKLOAD_NAME")
	p.ServiceCluster = n.GetCluster()
	p.Group, p.Entry = md.text("AUTO_REGISTER_GROUP"), md.text("WORKLOAD_ENTRY")
	p.HealthChecks = md["PROXY_CONFIG"].GetStructValue().GetFields()["readinessProbe"].GetStructValue() != nil
	p.Generator = md.text("GENERATOR")
	p.DNSCapture = md.truth("DNS_CAPTURE")
	p.Unprivileged = md.truth("UNPRIVILEGED_POD")
	// An agent of Istio's always says its version, and always serves
	// certificates. Ours says so itself.
	p.Certificates = md.truth("PILOTFISH_CERTIFICATES") || md.text("ISTIO_VERSION") != ""
	p.Telemetry = md.truth("PILOTFISH_TELEMETRY")
	p.Modules = md.truth("PILOTFISH_MODULES")
	if p.Interception, err = interception(md.text("INTERCEPTION_MODE")); err != nil {
		return nil, err
	}
	if p.Local, err = md.local(); err != nil {
		return nil, err
	}
	if l := n.GetLocality(); l != nil {
		p.Locality = config.Locality{Region: l.GetRegion(), Zone: l.GetZone(), Subzone: l.GetSubZone()}
	}
	for _, e := range n.GetExtensions() {
		p.Extensions = append(p.Extensions, e.GetName())
	}
	slices.Sort(p.Extensions)
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		p.EnvoyVersion = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	p.Raw = md.rest()
	return p, nil
}

func parseID(id string) (*config.Proxy, error) {
	const form = "want type~ip~name.namespace~domain"
	parts := strings.Split(id, "~")
	if len(parts) != 4 {
		return nil, fmt.Errorf("node id %q has %d parts: %s", id, len(parts), form)
	}
	p := &config.Proxy{ID: id, Type: config.ProxyType(parts[0]), DNSDomain: parts[3]}
	if p.Type != config.Sidecar && p.Type != config.Router {
		return nil, fmt.Errorf("node id %q: type %q is neither sidecar nor router", id, parts[0])
	}
	if parts[1] != "" {
		p.IPs = []string{parts[1]}
	}
	i := strings.LastIndexByte(parts[2], '.')
	if i <= 0 || i == len(parts[2])-1 {
		return nil, fmt.Errorf("node id %q: %q is not a name and a namespace: %s", id, parts[2], form)
	}
	p.Name, p.Namespace = parts[2][:i], parts[2][i+1:]
	return p, nil
}

func interception(s string) (config.Interception, error) {
	switch i := config.Interception(strings.ToUpper(s)); i {
	case "":
		return config.Redirect, nil
	case config.Redirect, config.TProxy, config.NoneMode:
		return i, nil
	}
	return "", fmt.Errorf("node metadata INTERCEPTION_MODE %q: want REDIRECT, TPROXY or NONE", s)
}

// metadata are a node's metadata fields.
type metadata map[string]*structpb.Value

func (m metadata) text(key string) string { return plain(m[key]) }

// plain is a scalar as text; agents write some numbers and truths as strings
// and others not.
func plain(v *structpb.Value) string {
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return v.StringValue
	case *structpb.Value_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *structpb.Value_NumberValue:
		return fmt.Sprint(v.NumberValue)
	}
	return ""
}

func (m metadata) truth(key string) bool {
	switch strings.ToLower(m.text(key)) {
	case "true", "1", "t":
		return true
	}
	return false
}

// list reads a list, or a string of comma-separated values.
func (m metadata) list(key string) []string {
	var out []string
	for _, v := range m[key].GetListValue().GetValues() {
		out = append(out, plain(v))
	}
	if s := m[key].GetStringValue(); s != "" {
		out = strings.Split(s, ",")
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

func (m metadata) table(key string) map[string]string {
	fields := m[key].GetStructValue().GetFields()
	if fields == nil {
		return nil
	}
	out := make(map[string]string, len(fields))
	for k, v := range fields {
		out[k] = plain(v)
	}
	return out
}

func (m metadata) local() (*config.LocalAddresses, error) {
	v := m["PILOTFISH_LOCAL"].GetStructValue()
	if v == nil {
		return nil, nil
	}
	b, err := protojson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("node metadata PILOTFISH_LOCAL: %w", err)
	}
	l := &config.LocalAddresses{}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("node metadata PILOTFISH_LOCAL: %w", err)
	}
	return l, nil
}

// rest keeps what else translation, metrics and tools read.
func (m metadata) rest() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"ISTIO_VERSION", "MESH_ID", "OWNER", "APP_CONTAINERS", "SIDECAR"} {
		if v := m.text(key); v != "" {
			out[key] = v
		}
	}
	m.addOwn(out)
	if v := m["PROXY_CONFIG"].GetStructValue(); v != nil {
		// encoding/json sorts keys: equal metadata, equal text.
		if b, err := json.Marshal(v.AsMap()); err == nil {
			out["PROXY_CONFIG"] = string(b)
		}
	}
	return out
}

// heldElsewhere are the texts that a Proxy has fields for.
var heldElsewhere = []string{
	"NAME", "NAMESPACE", "SERVICE_ACCOUNT", "CLUSTER_ID", "NODE_NAME", "NETWORK", "WORKLOAD_NAME", "INTERCEPTION_MODE",
	"INSTANCE_IPS", "POD_PORTS", "AUTO_REGISTER_GROUP", "WORKLOAD_ENTRY",
}

// addOwn keeps short texts that users give their proxies (ISTIO_META_*), by
// which an EnvoyFilter may tell proxies apart.
func (m metadata) addOwn(out map[string]string) {
	const most, longest = 32, 256
	kept := 0
	for _, key := range slices.Sorted(maps.Keys(m)) {
		v := m.text(key)
		if v == "" || len(v) > longest || out[key] != "" || kept == most || slices.Contains(heldElsewhere, key) {
			continue
		}
		out[key] = v
		kept++
	}
}
