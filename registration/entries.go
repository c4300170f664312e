package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"istio.io/api/annotation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// The annotations of an entry, which are Istio's.
var (
	groupNote        = annotation.IoIstioAutoRegistrationGroup.Name
	controllerNote   = annotation.IoIstioWorkloadController.Name
	connectedNote    = annotation.IoIstioConnectedAt.Name
	disconnectedNote = annotation.IoIstioDisconnectedAt.Name
)

const apiVersion = "networking.istio.io/v1"

// entries are the API server's WorkloadEntries.
type entries struct {
	client   rest.Interface
	identity string // of this replica
}

// entry is what is read of a WorkloadEntry.
type entry struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		ServiceAccount string `json:"serviceAccount"`
	} `json:"spec"`
	Status struct {
		Conditions []json.RawMessage `json:"conditions"`
	} `json:"status"`
}

// group is the WorkloadGroup that the entry was made for; empty if somebody else
// made it.
func (e *entry) group() string { return e.Metadata.Annotations[groupNote] }

func (e *entry) connectedAt() time.Time { return noted(e.Metadata.Annotations, connectedNote) }

// noted is the time that an annotation holds; zero for none.
func noted(notes map[string]string, key string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, notes[key])
	if err != nil {
		return time.Time{}
	}
	return at
}

// connectedBefore reports whether what the entry says is older than a
// connection to a replica that began at a time.
func (e *entry) connectedBefore(replica string, at time.Time) bool {
	if last := e.connectedAt(); last.After(at) || last.Equal(at) && e.Metadata.Annotations[controllerNote] == replica {
		return false
	}
	return !noted(e.Metadata.Annotations, disconnectedNote).After(at)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func path(n name) string {
	return fmt.Sprintf("/apis/%s/namespaces/%s/workloadentries/%s", apiVersion, n.namespace, n.name)
}

func (c *entries) get(ctx context.Context, n name) (*entry, error) {
	b, err := c.client.Get().AbsPath(path(n)).DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	e := &entry{}
	return e, json.Unmarshal(b, e)
}

// owner is the reference by which an entry ends with its group.
func (c *entries) owner(ctx context.Context, g *config.WorkloadGroup) (metav1.OwnerReference, error) {
	b, err := c.client.Get().AbsPath(fmt.Sprintf("/apis/%s/namespaces/%s/workloadgroups/%s", apiVersion, g.Namespace, g.Name)).DoRaw(ctx)
	var has struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err == nil {
		err = json.Unmarshal(b, &has)
	}
	yes := true
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: g.Kind, Name: g.Name, UID: has.Metadata.UID, Controller: &yes}, err
}

// create makes an entry whose proxy has connected at a time.
func (c *entries) create(ctx context.Context, e *config.WorkloadEntry, owner metav1.OwnerReference, at time.Time) error {
	spec, err := protojson.Marshal(e.Spec)
	if err != nil {
		return err
	}
	notes := map[string]string{controllerNote: c.identity, connectedNote: stamp(at)}
	for k, v := range e.Annotations {
		notes[k] = v
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": apiVersion, "kind": "WorkloadEntry", "spec": json.RawMessage(spec),
		"metadata": map[string]any{
			"name": e.Name, "namespace": e.Namespace, "labels": e.Labels, "annotations": notes, "ownerReferences": []metav1.OwnerReference{owner},
		},
	})
	if err != nil {
		return err
	}
	return c.client.Post().AbsPath(fmt.Sprintf("/apis/%s/namespaces/%s/workloadentries", apiVersion, e.Namespace)).Body(body).Do(ctx).Error()
}

// connected makes an entry say that its proxy has connected to this replica.
func (c *entries) connected(ctx context.Context, n name, e *entry, at time.Time) error {
	return c.note(ctx, n, e, map[string]any{controllerNote: c.identity, connectedNote: stamp(at), disconnectedNote: nil})
}

// away makes an entry say that its proxy has left.
func (c *entries) away(ctx context.Context, n name, e *entry, at time.Time) error {
	return c.note(ctx, n, e, map[string]any{connectedNote: nil, disconnectedNote: stamp(at)})
}

// note changes annotations of the version that was read.
func (c *entries) note(ctx context.Context, n name, e *entry, notes map[string]any) error {
	return c.patch(ctx, path(n), map[string]any{
		"metadata": map[string]any{"resourceVersion": e.Metadata.ResourceVersion, "annotations": notes},
	})
}

func (c *entries) patch(ctx context.Context, path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.client.Patch(types.MergePatchType).AbsPath(path).Body(body).Do(ctx).Error()
}

// condition is istio.meta.v1alpha1.IstioCondition.
type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
	Probed  string `json:"lastProbeTime"`
	Since   string `json:"lastTransitionTime"`
}

// healthy writes a report of health into the status of the version that was
// read. Other conditions stay.
func (c *entries) healthy(ctx context.Context, n name, e *entry, h *health) error {
	next := condition{Type: config.HealthyCondition, Status: "True", Message: h.fault, Probed: stamp(h.at), Since: stamp(h.at)}
	if h.fault != "" {
		next.Status = "False"
	}
	others, last := split(e.Status.Conditions)
	if last != nil && last.Status == next.Status && last.Message == next.Message {
		return nil
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return c.conditions(ctx, n, e, append(others, text))
}

// forgetHealth takes the condition away of an entry whose proxy is gone, and the
// notes that it was there.
func (c *entries) forgetHealth(ctx context.Context, n name, e *entry) error {
	others, last := split(e.Status.Conditions)
	if last != nil {
		return c.conditions(ctx, n, e, others)
	}
	return c.note(ctx, n, e, map[string]any{controllerNote: nil, connectedNote: nil, disconnectedNote: nil})
}

func (c *entries) conditions(ctx context.Context, n name, e *entry, list []json.RawMessage) error {
	if list == nil {
		list = []json.RawMessage{}
	}
	return c.patch(ctx, path(n)+"/status", map[string]any{
		"metadata": map[string]any{"resourceVersion": e.Metadata.ResourceVersion}, "status": map[string]any{"conditions": list},
	})
}

// split takes the condition about health out of a list.
func split(all []json.RawMessage) (others []json.RawMessage, health *condition) {
	others = slices.DeleteFunc(slices.Clone(all), func(text json.RawMessage) bool {
		var one condition
		if json.Unmarshal(text, &one) != nil || one.Type != config.HealthyCondition {
			return false
		}
		health = &one
		return true
	})
	return others, health
}

// remove deletes the version of an entry that was read.
func (c *entries) remove(ctx context.Context, n name, e *entry) error {
	body, err := json.Marshal(&metav1.DeleteOptions{
		TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions: &metav1.Preconditions{UID: &e.Metadata.UID, ResourceVersion: &e.Metadata.ResourceVersion},
	})
	if err != nil {
		return err
	}
	return c.client.Delete().AbsPath(path(n)).Body(body).Do(ctx).Error()
}
