package register

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"istio.io/api/label"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// Probe asks the API server, as a dry run, to create a Gateway without
// servers: the CRD's schema has nothing against it, validation has.
type Probe struct {
	Client    dynamic.Interface
	Namespace string
	Revision  string
}

var gateways = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}

// refusal is how the API server tells of a webhook's answer.
var refusal = regexp.MustCompile(`^admission webhook "([^"]+)" denied the request`)

// Refusing implements Prober. Webhooks select objects that name the revision,
// one of its tags, or nothing: it asks for each.
func (p *Probe) Refusing(ctx context.Context, tags []string) (map[string]bool, error) {
	out := map[string]bool{}
	var accepted error
	all := []map[string]any{{label.IoIstioRev.Name: p.Revision}, nil}
	for _, tag := range tags {
		all = append(all, map[string]any{label.IoIstioRev.Name: tag})
	}
	for _, labels := range all {
		invalid := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": gateways.GroupVersion().String(), "kind": "Gateway",
			"metadata": map[string]any{"name": "pilotfish-probe-without-servers", "labels": labels},
			"spec":     map[string]any{},
		}}
		_, err := p.Client.Resource(gateways).Namespace(p.Namespace).Create(ctx, invalid, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		var status apierrors.APIStatus
		switch {
		case err == nil:
			accepted = errors.New("an invalid object was accepted")
		case errors.As(err, &status) && refusal.MatchString(status.Status().Message):
			out[refusal.FindStringSubmatch(status.Status().Message)[1]] = true
		default:
			return nil, fmt.Errorf("an invalid object could not be tried: %w", err)
		}
	}
	if len(out) == 0 {
		return nil, accepted
	}
	return out, nil
}
