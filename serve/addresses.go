package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// addressWriter writes the addresses that were allocated for the hosts of
// ServiceEntries into their status: there they outlive the control plane, and
// are seen by its other replicas and by people.
type addressWriter struct {
	client  rest.Interface // any of the API server's
	mesh    func() *config.Mesh
	changed <-chan struct{}
}

// entryStatus is the part of a ServiceEntry's status that is ours.
type entryStatus struct {
	Addresses []*networking.ServiceEntryAddress `json:"addresses"`
}

func (s entryStatus) text() string {
	var out string
	for _, a := range s.Addresses {
		out += a.GetHost() + " " + a.GetValue() + "\n"
	}
	return out
}

// Run is that of a Writer.
func (w *addressWriter) Run(ctx context.Context) error {
	written := map[config.Key]string{} // what the status is known to say, by incarnation
	for {
		if m := w.mesh(); m != nil {
			if err := w.write(ctx, m, written); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		}
	}
}

// write brings every status to what the mesh says. One that fails does not
// keep others from theirs.
func (w *addressWriter) write(ctx context.Context, m *config.Mesh, written map[config.Key]string) error {
	want := map[config.Key]entryStatus{}
	metas := map[config.Key]*config.Meta{}
	for s := range m.Services.All() {
		if s.Meta.Kind != "ServiceEntry" || s.Meta.File != "" || len(s.AutoAddresses) == 0 {
			continue
		}
		status := want[s.Meta.Key]
		for _, a := range s.AutoAddresses {
			status.Addresses = append(status.Addresses, &networking.ServiceEntryAddress{Host: s.Hostname, Value: a})
		}
		want[s.Meta.Key], metas[s.Meta.Key] = status, &s.Meta
	}
	maps.DeleteFunc(written, func(k config.Key, _ string) bool { _, still := want[k]; return !still })
	var faults []error
	for _, key := range slices.SortedFunc(maps.Keys(want), config.Key.Compare) {
		status := want[key]
		now := metas[key].Created.String() + "\n" + status.text()
		if written[key] == now {
			continue
		}
		switch err := w.writeOne(ctx, metas[key], status); {
		case err == nil, apierrors.IsNotFound(err): // it may have gone meanwhile
			written[key] = now
		default:
			faults = append(faults, fmt.Errorf("status of %s: %w", key, err))
		}
	}
	return errors.Join(faults...)
}

func (w *addressWriter) writeOne(ctx context.Context, meta *config.Meta, status entryStatus) error {
	path := fmt.Sprintf("/apis/%s/%s/namespaces/%s/serviceentries/%s/status", meta.Group, meta.Version, meta.Namespace, meta.Name)
	var has struct {
		Status entryStatus `json:"status"`
	}
	b, err := w.client.Get().AbsPath(path).DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &has); err == nil && has.Status.text() == status.text() {
		return nil
	}
	patch, err := json.Marshal(map[string]entryStatus{"status": status})
	if err != nil {
		return err
	}
	return w.client.Patch(types.MergePatchType).AbsPath(path).Body(patch).Do(ctx).Error()
}
