package discovery

import (
	"context"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Source watches one origin of objects and applies what it sees to a Store.
type Source interface {
	// Run blocks until ctx ends (it then returns nil) or the source fails for
	// good. It calls Store.Synced once, after its first complete view has
	// been applied. A passing failure of the origin is no error: the Store
	// keeps the last good state.
	Run(ctx context.Context, s *Store) error
}

// Object is one raw object as a source reads it.
type Object struct {
	Meta config.Meta
	// Body is the content: a Kubernetes type (*corev1.Service,
	// *discoveryv1.EndpointSlice, *corev1.Pod, *corev1.Node,
	// *corev1.Namespace, *corev1.Secret, *corev1.ConfigMap, and for files
	// the workload kinds that hold pod templates) or the spec of an Istio
	// object (proto.Message). Not to be modified after it was applied.
	Body any
	// Status is a ServiceEntry's status, whose addresses are those that were
	// allocated for its hosts. Nil for everything else.
	Status *networking.ServiceEntryStatus
	// Unhealthy: it is a WorkloadEntry whose health is checked, and is not known
	// to be good. It takes no requests.
	Unhealthy bool
}

// Change is one step of an object: its new version, or its end.
type Change struct {
	Object  Object
	Deleted bool // only Object.Meta.Key is then read
}

// Validator tests an Istio object before it is put into effect. Problems of
// severity Error keep it out: its last good version stays.
type Validator func(meta *config.Meta, spec proto.Message) []config.Problem
