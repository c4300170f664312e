package translate

import (
	metadata "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tags "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// istioTags tell who the proxy is. Envoy reads them off its own node, so that
// proxies that differ in nothing else share their listeners.
var istioTags = []*tags.CustomTag{
	nodeTag("istio.canonical_revision", "LABELS", "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"),
	nodeTag("istio.canonical_service", "LABELS", "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"),
	valueTag("istio.cluster_id", nodeValue("CLUSTER_ID", "unknown")),
	valueTag("istio.mesh_id", nodeValue("MESH_ID", "unknown")),
	valueTag("istio.namespace", nodeValue("NAMESPACE", "default")),
}

// dryRunTags are what AuthorizationPolicies decided that only try.
var dryRunTags = []*tags.CustomTag{
	dryRunTag("allow", "name"), dryRunTag("allow", "result"), dryRunTag("deny", "name"), dryRunTag("deny", "result"),
}

func valueTag(name, value string) *tags.CustomTag {
	return &tags.CustomTag{Tag: name, Type: &tags.CustomTag_Value{Value: value}}
}

// nodeValue is a text of the node's metadata, or otherwise.
func nodeValue(key, otherwise string) string {
	return "%CEL('" + key + "' in xds.node.metadata ? xds.node.metadata['" + key + "'] : '" + otherwise + "')%"
}

// nodeTag is the first of the labels that the node's metadata has.
func nodeTag(name, table string, labels ...string) *tags.CustomTag {
	otherwise := "'unknown'"
	if name == "istio.canonical_revision" {
		otherwise = "'latest'"
	}
	at := "xds.node.metadata['" + table + "']"
	text := otherwise
	for i := len(labels) - 1; i >= 0; i-- {
		text = "'" + labels[i] + "' in " + at + " ? " + at + "['" + labels[i] + "'] : (" + text + ")"
	}
	text = "'" + table + "' in xds.node.metadata ? (" + text + ") : " + otherwise
	return valueTag(name, "%CEL("+text+")%")
}

func dryRunTag(action, what string) *tags.CustomTag {
	key := map[string]string{"name": "shadow_effective_policy_id", "result": "shadow_engine_result"}[what]
	return &tags.CustomTag{
		Tag: "istio.authorization.dry_run." + action + "_policy." + what,
		Type: &tags.CustomTag_Metadata_{Metadata: &tags.CustomTag_Metadata{
			Kind: &metadata.MetadataKind{Kind: &metadata.MetadataKind_Request_{Request: &metadata.MetadataKind_Request{}}},
			MetadataKey: &metadata.MetadataKey{Key: httpAccessFilter, Path: []*metadata.MetadataKey_PathSegment{{
				Segment: &metadata.MetadataKey_PathSegment_Key{Key: "istio_dry_run_" + action + "_" + key},
			}}},
		}},
	}
}

// spanTag is a tag of telemetry/v1alpha1 Tracing.customTags; nil for one with
// a fault, which is a Problem.
func spanTag(name string, c *telemetry.Tracing_CustomTag) *tags.CustomTag {
	if spanTagFault(c) != "" {
		return nil
	}
	out := &tags.CustomTag{Tag: name}
	switch {
	case c.GetLiteral() != nil:
		out.Type = literalTag(c.GetLiteral().GetValue())
	case c.GetEnvironment() != nil:
		out.Type = environmentTag(c.GetEnvironment().GetName(), c.GetEnvironment().GetDefaultValue())
	case c.GetHeader() != nil:
		out.Type = headerTag(c.GetHeader().GetName(), c.GetHeader().GetDefaultValue())
	default:
		out.Type = &tags.CustomTag_Value{Value: c.GetFormatter().GetValue()}
	}
	return out
}

func spanTagFault(c *telemetry.Tracing_CustomTag) string {
	switch {
	case c.GetLiteral() != nil && c.GetLiteral().GetValue() == "":
		return "is an empty literal"
	case c.GetEnvironment() != nil && c.GetEnvironment().GetName() == "":
		return "names no environment variable"
	case c.GetHeader() != nil && !headerName.MatchString(c.GetHeader().GetName()):
		return "names the header " + shown(c.GetHeader().GetName()) + "; want a header's name"
	case c.GetFormatter() != nil && c.GetFormatter().GetValue() == "":
		return "is an empty format"
	case c.GetFormatter() != nil:
		if fault := variablesFault(c.GetFormatter().GetValue()); fault != "" {
			return "has the format " + shown(c.GetFormatter().GetValue()) + ", " + fault
		}
	case c.GetType() == nil:
		return "says nothing; want literal, environment, header or formatter"
	}
	return ""
}

func olderTag(name string, c *meshconfig.Tracing_CustomTag) *tags.CustomTag {
	out := &tags.CustomTag{Tag: name}
	switch {
	case c.GetLiteral().GetValue() != "":
		out.Type = literalTag(c.GetLiteral().GetValue())
	case c.GetEnvironment().GetName() != "":
		out.Type = environmentTag(c.GetEnvironment().GetName(), c.GetEnvironment().GetDefaultValue())
	case headerName.MatchString(c.GetHeader().GetName()):
		out.Type = headerTag(c.GetHeader().GetName(), c.GetHeader().GetDefaultValue())
	default:
		return nil
	}
	return out
}

func literalTag(v string) *tags.CustomTag_Literal_ {
	return &tags.CustomTag_Literal_{Literal: &tags.CustomTag_Literal{Value: v}}
}

func environmentTag(name, otherwise string) *tags.CustomTag_Environment_ {
	return &tags.CustomTag_Environment_{Environment: &tags.CustomTag_Environment{Name: name, DefaultValue: otherwise}}
}

func headerTag(name, otherwise string) *tags.CustomTag_RequestHeader {
	return &tags.CustomTag_RequestHeader{RequestHeader: &tags.CustomTag_Header{Name: name, DefaultValue: otherwise}}
}
