package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// retriedNote makes the API server look again at a CRD that it is to remove.
const retriedNote = "pilotfish.io/removal-retried"

// purgeKinds removes Istio's CRDs and waits until they are gone, and with them
// the objects of users. They are deleted one by one: only that makes the API
// server remove a kind's objects; after deletecollection they stay in etcd, and
// come back with the CRD.
func (c *Cluster) purgeKinds(ctx context.Context, timeout time.Duration) error {
	kinds := c.crds.ApiextensionsV1().CustomResourceDefinitions()
	istio := metav1.ListOptions{LabelSelector: crdSelector}
	list, err := kinds.List(ctx, istio)
	if err != nil {
		return err
	}
	for _, k := range list.Items {
		if err := kinds.Delete(ctx, k.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	seen := map[string]string{} // resource versions by name
	err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, timeout, true, func(context.Context) (bool, error) {
		if list, err = kinds.List(ctx, istio); err != nil {
			return false, err
		}
		for i := range list.Items {
			k := &list.Items[i]
			if still := seen[k.Name] == k.ResourceVersion; still && terminating(k).Reason == "InstanceDeletionFailed" {
				if err := c.retryRemoval(ctx, k); err != nil {
					return false, err
				}
			}
			seen[k.Name] = k.ResourceVersion
		}
		return len(list.Items) == 0, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("after %v these are still there; end what holds them, and run it again:%s", timeout, c.whatHolds(ctx, list.Items))
	}
	return err
}

// terminating is what the API server says of the removal of a kind's objects.
func terminating(k *apiextensionsv1.CustomResourceDefinition) apiextensionsv1.CustomResourceDefinitionCondition {
	for _, cond := range k.Status.Conditions {
		if cond.Type == apiextensionsv1.Terminating {
			return cond
		}
	}
	return apiextensionsv1.CustomResourceDefinitionCondition{}
}

// retryRemoval makes the API server try again to remove a kind's objects. It
// fails where its cache of them is just being filled anew, as after any change
// of the CRD ("storage is (re)initializing"), and if the CRD's status is written
// meanwhile it then waits for a change of anything else, for minutes.
func (c *Cluster) retryRemoval(ctx context.Context, k *apiextensionsv1.CustomResourceDefinition) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, retriedNote, k.ResourceVersion)
	_, err := c.crds.ApiextensionsV1().CustomResourceDefinitions().Patch(ctx, k.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// whatHolds tells, a line each, why kinds are not gone: the objects with
// finalizers, or what the API server says.
func (c *Cluster) whatHolds(ctx context.Context, kinds []apiextensionsv1.CustomResourceDefinition) string {
	const most = 10 // objects of a kind
	var b strings.Builder
	for i := range kinds {
		k := &kinds[i]
		resource := schema.GroupVersionResource{Group: k.Spec.Group, Version: storedVersion(k), Resource: k.Spec.Names.Plural}
		objects, err := c.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
		if err != nil || len(objects.Items) == 0 {
			fmt.Fprintf(&b, "\n  %s: %s", k.Name, terminating(k).Message)
			continue
		}
		for n, o := range objects.Items {
			if n == most {
				fmt.Fprintf(&b, "\n  and %d more of %s", len(objects.Items)-most, k.Name)
				break
			}
			why := "not removed yet"
			if f := o.GetFinalizers(); len(f) > 0 {
				why = "finalizers: " + strings.Join(f, ", ")
			}
			fmt.Fprintf(&b, "\n  %s %s/%s: %s", o.GetKind(), o.GetNamespace(), o.GetName(), why)
		}
	}
	return b.String()
}

func storedVersion(k *apiextensionsv1.CustomResourceDefinition) string {
	i := slices.IndexFunc(k.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
	return k.Spec.Versions[i].Name
}
