package rollout

import (
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// controllers are the field managers of programs that set routes themselves,
// or set them back to what a repository says, with what to call them.
var controllers = map[string]string{
	"flagger":                       "Flagger",
	"rollouts-controller":           "Argo Rollouts",
	"argo-rollouts":                 "Argo Rollouts",
	"argocd-controller":             "Argo CD",
	"argocd-application-controller": "Argo CD",
	"kustomize-controller":          "Flux",
	"helm-controller":               "Flux",
}

// marks are the labels and annotations by which such programs know what is
// theirs.
var marks = map[string]string{
	"kustomize.toolkit.fluxcd.io/name":    "Flux",
	"helm.toolkit.fluxcd.io/name":         "Flux",
	"argocd.argoproj.io/tracking-id":      "Argo CD",
	"argocd.argoproj.io/instance":         "Argo CD",
	"rollouts.argoproj.io/managed-routes": "Argo Rollouts",
}

// managedBy says which program manages an object's routes; empty if none does.
// Helm is none: it acts only when somebody runs it.
func managedBy(o metav1.Object) string {
	if owner := metav1.GetControllerOf(o); owner != nil {
		return fmt.Sprintf("%s %s, its owner", owner.Kind, owner.Name)
	}
	for _, set := range []map[string]string{o.GetLabels(), o.GetAnnotations()} {
		for key := range set {
			if name := marks[key]; name != "" {
				return name + " (" + key + ")"
			}
		}
	}
	for _, m := range o.GetManagedFields() {
		if name := controllers[m.Manager]; name != "" && ownsRoutes(m) {
			return fmt.Sprintf("%s (field manager %s)", name, m.Manager)
		}
	}
	return ""
}

// writers names those who own the routes, for people who must find out who
// changed them.
func writers(o metav1.Object) string {
	var names []string
	for _, m := range o.GetManagedFields() {
		if ownsRoutes(m) && m.Manager != fieldManager {
			names = append(names, m.Manager)
		}
	}
	if len(names) == 0 {
		return "somebody"
	}
	return strings.Join(names, ", ")
}

func ownsRoutes(m metav1.ManagedFieldsEntry) bool {
	if m.FieldsV1 == nil || m.Subresource != "" {
		return false
	}
	var fields struct {
		Spec map[string]json.RawMessage `json:"f:spec"`
	}
	if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
		return true // what cannot be read may be about routes
	}
	_, http := fields.Spec["f:http"]
	return http
}
