package telemetry

import (
	"encoding/json"
	"slices"
	"strings"
)

// Workload is one side of a request, as metrics name it. An empty field is
// unknown.
type Workload struct {
	Name, Namespace, Principal, App, Version string
	CanonicalService, CanonicalRevision      string
	Cluster                                  string
}

// FromLabels is a pod's workload. The canonical names follow Istio's rules.
func FromLabels(name, namespace, cluster, principal string, labels map[string]string) Workload {
	w := Workload{
		Name: name, Namespace: namespace, Cluster: cluster, Principal: principal, App: labels["app"], Version: labels["version"],
		CanonicalService:  first(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"),
		CanonicalRevision: first(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"),
	}
	if w.CanonicalService == "" {
		w.CanonicalService = name
	}
	if w.CanonicalRevision == "" {
		w.CanonicalRevision = "latest"
	}
	return w
}

func first(labels map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return ""
}

// fromEndpoint reads what the control plane says of an endpoint:
// "workload;namespace;canonical name;canonical revision;cluster".
func fromEndpoint(text, principal string) Workload {
	p := strings.Split(text, ";")
	if len(p) < 5 {
		return fromPrincipal(principal)
	}
	w := Workload{
		Name: p[0], Namespace: p[1], CanonicalService: p[2], CanonicalRevision: p[3], Cluster: p[4], Principal: principal,
		App: p[2], Version: p[3],
	}
	if w.CanonicalRevision == "" {
		w.CanonicalRevision = "latest"
	}
	return w
}

// fromPrincipal knows of a peer what its certificate says.
func fromPrincipal(principal string) Workload {
	w := Workload{Principal: principal}
	if _, rest, ok := strings.Cut(principal, "/ns/"); ok {
		w.Namespace, _, _ = strings.Cut(rest, "/")
	}
	return w
}

// service is what a request was for.
type service struct {
	Host      string `json:"host"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// serviceOf is the service of a cluster: of its metadata, or as its name and
// the request tell.
func serviceOf(metadata, cluster, authority string) service {
	var list []service
	if metadata != "" && metadata != "-" && json.Unmarshal([]byte(metadata), &list) == nil && len(list) > 0 {
		return list[0]
	}
	var s service
	if host, _, _ := strings.Cut(authority, ":"); host != "" {
		s.Host = host
	}
	parts := strings.Split(cluster, "|")
	switch {
	case len(parts) == 4 && parts[3] != "":
		s.Host, s.Name = parts[3], parts[3]
		if l := strings.Split(parts[3], "."); len(l) > 2 && l[2] == "svc" {
			s.Name, s.Namespace = l[0], l[1]
		}
	case cluster == "PassthroughCluster" || cluster == "BlackHoleCluster" || strings.HasPrefix(cluster, "InboundPassthrough"):
		s.Name = cluster
	}
	return s
}

// labels are those of one series. Comparable.
type labels struct {
	source, destination Workload
	service             service
	reporter            string
	protocol            string
	code                string // HTTP only
	grpcStatus          string // gRPC only
	flags               string
	policy              string
}

const (
	unknown = "unknown" // what is not known is said so
	// grpcLabel is the one label that is empty where it does not apply.
	grpcLabel = "grpc_response_status"
)

var quote = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// text is the labels as Prometheus writes them, in Istio's order, then those
// that a group adds. tags hold the values that a group sets.
func (l *labels) text(http bool, g *group, tags map[string]string) string {
	var b strings.Builder
	write := func(name, value string) {
		b.WriteString(name)
		b.WriteString(`="`)
		_, _ = quote.WriteString(&b, value)
		b.WriteString(`",`)
	}
	set := slices.Clone(g.set)
	add := func(name, value string) {
		if slices.Contains(g.remove, name) {
			return
		}
		if i := slices.IndexFunc(set, func(s setLabel) bool { return s.label == name }); i >= 0 {
			value = plain(tags[set[i].tag])
			set = slices.Delete(set, i, i+1)
		}
		if value == "" && name != grpcLabel {
			value = unknown
		}
		write(name, value)
	}
	side := func(prefix string, w *Workload) {
		add(prefix+"_workload", w.Name)
		add(prefix+"_workload_namespace", w.Namespace)
		add(prefix+"_principal", w.Principal)
		add(prefix+"_app", w.App)
		add(prefix+"_version", w.Version)
		add(prefix+"_canonical_service", w.CanonicalService)
		add(prefix+"_canonical_revision", w.CanonicalRevision)
		add(prefix+"_cluster", w.Cluster)
	}
	add("reporter", l.reporter)
	side("source", &l.source)
	side("destination", &l.destination)
	add("destination_service", l.service.Host)
	add("destination_service_name", l.service.Name)
	add("destination_service_namespace", l.service.Namespace)
	add("request_protocol", l.protocol)
	if http {
		add("response_code", l.code)
		add(grpcLabel, l.grpcStatus)
	}
	add("response_flags", l.flags)
	add("connection_security_policy", l.policy)
	for _, s := range set {
		value := plain(tags[s.tag])
		if value == "" {
			value = unknown
		}
		write(s.label, value)
	}
	return strings.TrimSuffix(b.String(), ",")
}
