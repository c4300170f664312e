package simulate

import (
	"fmt"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Source is the object that a resource was made of, as the resource says.
type Source struct {
	Object config.Key `json:"object,omitzero"`
	File   string     `json:"file,omitempty"`
	Line   int        `json:"line,omitempty"`
	// Match is which of a rule's several matches a route is of, or nil.
	Match *int `json:"match,omitempty"`
}

// String is "Kind namespace/name (file:line)".
func (s *Source) String() string {
	switch {
	case s == nil:
		return ""
	case s.File == "":
		return s.Object.String()
	}
	return fmt.Sprintf("%s (%s:%d)", s.Object, s.File, s.Line)
}

// sourceOf reads filter_metadata "istio", or is nil where there is none.
func sourceOf(m *core.Metadata) *Source {
	fields := m.GetFilterMetadata()["istio"].GetFields()
	path := fields["config"].GetStringValue()
	// /apis/<group>/<version>/namespaces/<ns>/<kind>/<name>
	parts := strings.Split(path, "/")
	if len(parts) != 8 {
		return nil
	}
	var match *int
	if v, ok := fields["match"]; ok {
		n := int(v.GetNumberValue())
		match = &n
	}
	return &Source{
		Match:  match,
		Object: config.Key{Group: parts[2], Kind: kindOf(parts[6]), Namespace: parts[5], Name: parts[7]},
		File:   fields["file"].GetStringValue(),
		Line:   int(fields["line"].GetNumberValue()),
	}
}

// sourceOfCluster is sourceOf for clusters: those that a Kubernetes Service alone
// made name it among what they stand for.
func sourceOfCluster(c *cluster.Cluster) *Source {
	if s := sourceOf(c.GetMetadata()); s != nil {
		return s
	}
	return serviceOf(c)
}

// serviceOf is the service that a cluster stands for, nil if that is none or
// several.
func serviceOf(c *cluster.Cluster) *Source {
	list := c.GetMetadata().GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()
	if len(list) != 1 {
		return nil
	}
	f := list[0].GetStructValue().GetFields()
	return &Source{Object: config.Key{
		Kind: "Service", Namespace: f["namespace"].GetStringValue(), Name: f["name"].GetStringValue(),
	}}
}

// sourceOfHost is sourceOf for virtual hosts: one that a Kubernetes Service
// alone made has nothing but a route to the service's cluster.
func (c *Config) sourceOfHost(vh *route.VirtualHost) *Source {
	s := sourceOf(vh.GetMetadata())
	if s != nil || len(vh.GetRoutes()) != 1 || vh.GetRoutes()[0].GetMetadata() != nil {
		return s
	}
	name := vh.GetRoutes()[0].GetRoute().GetCluster()
	if !strings.HasPrefix(name, "outbound|") {
		return nil
	}
	return serviceOf(c.cluster(name))
}

// kindOf is the kind of its form with dashes: virtual-service.
func kindOf(dashed string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(dashed, "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}
