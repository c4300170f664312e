package meshtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// istioAnnotations are those that Istio's API documents, by name.
var istioAnnotations = sync.OnceValue(func() map[string]*annotation.Instance {
	out := map[string]*annotation.Instance{}
	for _, a := range annotation.AllResourceAnnotations() {
		out[a.Name] = a
	}
	return out
})

// annotationGroups are those whose annotations are all Istio's.
var annotationGroups = []string{"sidecar.istio.io", "traffic.sidecar.istio.io", "proxy.istio.io", "inject.istio.io", "networking.istio.io"}

// wrongAnnotations are annotations of Istio's that nothing reads: mistyped, on
// an object that they are not for, or with a value that is none.
func wrongAnnotations(m *config.Mesh) []config.Problem {
	c := &annotationCheck{seen: map[string]bool{}}
	for w := range m.Workloads.All() {
		meta := w.Meta
		if w.Owner.Name != "" { // what is written: the name of the pod is made up
			meta.Key = w.Owner
		}
		c.object(&meta, annotation.Pod)
	}
	for s := range m.Services.All() {
		if s.Kubernetes {
			c.object(&s.Meta, annotation.Service)
		}
	}
	for n := range m.Namespaces.All() {
		c.object(&n.Meta, annotation.Namespace)
	}
	return c.problems
}

type annotationCheck struct {
	seen     map[string]bool // what the pods of one template have in common
	problems []config.Problem
}

func (c *annotationCheck) object(meta *config.Meta, kind annotation.ResourceTypes) {
	for _, k := range sortedKeys(meta.Annotations) {
		at := fmt.Sprint(meta.File, meta.Line, k)
		if c.seen[at] {
			continue
		}
		c.seen[at] = true
		if code, text := annotationFault(k, meta.Annotations[k], kind); code != "" {
			severity := config.Warning
			if code == "AnnotationDeprecated" {
				severity = config.Info
			}
			c.problems = append(c.problems, config.At(meta, "metadata.annotations["+k+"]", severity, code, "%s", text))
		}
	}
}

// annotationFault says what is wrong with an annotation of a kind of objects;
// empty for nothing.
func annotationFault(name, value string, kind annotation.ResourceTypes) (code, text string) {
	group, _, _ := strings.Cut(name, "/")
	known := istioAnnotations()[name]
	switch {
	case known == nil && !slices.Contains(annotationGroups, group):
		return "", ""
	case known == nil:
		text = "is none that anything reads"
		if near := config.Nearest(name, sortedKeys(istioAnnotations())); near != "" {
			text += fmt.Sprintf(": did you mean %q?", near)
		}
		return "AnnotationUnknown", text
	case !slices.Contains(known.Resources, kind) && !slices.Contains(known.Resources, annotation.Any):
		var want []string
		for _, r := range known.Resources {
			want = append(want, r.String())
		}
		return "AnnotationMisplaced", fmt.Sprintf("has no effect on a %s: it is for %s", kind, strings.Join(want, ", "))
	}
	want := config.AnnotationWant(name, value)
	if name == annotation.SidecarInject.Name {
		want = wantSwitch(value)
	}
	switch {
	case want != "":
		return "AnnotationInvalid", fmt.Sprintf("is %q: want %s", value, want)
	case known.Deprecated && name == annotation.SidecarInject.Name:
		return "AnnotationDeprecated", "is deprecated: write the label of the same name"
	case known.Deprecated:
		return "AnnotationDeprecated", "is deprecated in Istio's API"
	}
	return "", ""
}

// wantSwitch is about what injection takes for a yes or a no.
func wantSwitch(v string) string {
	switch strings.ToLower(v) {
	case "y", "yes", "true", "on", "n", "no", "false", "off", "enabled", "disabled":
		return ""
	}
	return `"true" or "false"`
}

// contraryInjection are namespaces whose two labels of injection may say
// different things: revisions other than the default then do nothing.
func contraryInjection(m *config.Mesh) []config.Problem {
	const injection = "istio-injection"
	var out []config.Problem
	for n := range m.Namespaces.All() {
		said, both := n.Labels[injection]
		if rev, ok := n.Labels[label.IoIstioRev.Name]; ok && both && said != "disabled" { // which is said for now, beside what is meant for later
			out = append(out, config.At(&n.Meta, "metadata.labels["+label.IoIstioRev.Name+"]", config.Warning, "InjectionContrary",
				"is %q beside %s: %s, which goes first, so that the revision has no effect. Leave one of the two out", rev, injection, said))
		}
	}
	return out
}
