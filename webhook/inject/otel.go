package inject

import (
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
)

// otelResourceAttributes is the value of OTEL_RESOURCE_ATTRIBUTES, or empty
// where no OpenTelemetry provider asks for it (serviceAttributeEnrichment). The
// order in which each attribute is looked for is that of OpenTelemetry's
// semantic conventions for Kubernetes.
func otelResourceAttributes(mc *meshconfig.MeshConfig, annotations, labels map[string]string, ns string, containers []corev1.Container) string {
	if !enrichesServices(mc) {
		return ""
	}
	var out []string
	attribute := func(name string, values ...string) {
		for _, v := range append([]string{annotations["resource.opentelemetry.io/"+name]}, values...) {
			if v != "" {
				out = append(out, name+"="+v)
				return
			}
		}
	}
	attribute("service.namespace", ns)
	version, instance := "", ""
	if len(containers) == 1 {
		version = imageVersion(containers[0].Image)
	}
	if len(containers) > 0 {
		instance = ns + ".$(POD_NAME)." + containers[0].Name // the kubelet puts in the name
	}
	attribute("service.version", labels["app.kubernetes.io/version"], version)
	attribute("service.instance.id", instance)
	return strings.Join(out, ",")
}

func enrichesServices(mc *meshconfig.MeshConfig) bool {
	for _, p := range mc.GetExtensionProviders() {
		if p.GetOpentelemetry().GetServiceAttributeEnrichment() == meshconfig.MeshConfig_ExtensionProvider_OTEL_SEMANTIC_CONVENTIONS {
			return true
		}
	}
	return false
}

// imageVersion is an image's tag, its digest, or tag@digest.
func imageVersion(image string) string {
	name, digest, _ := strings.Cut(image, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		tag = name[i+1:]
	}
	if tag != "" && digest != "" {
		return tag + "@" + digest
	}
	return tag + digest
}
