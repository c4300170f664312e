package kube

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
)

// served is how the API server offers a kind; the zero value: not at all.
type served struct{ version, plural string }

// customKinds are the kinds of CRDs that are read: Istio's, and one that has no
// New, since it is no message.
func customKinds() []discovery.Kind {
	return append(discovery.Kinds(), discovery.Kind{
		Group: discovery.GatewayAPIGroup, Kind: "ReferenceGrant", Versions: discovery.ReferenceGrantVersions(),
	})
}

// istioKind follows one of Istio's kinds, or the ReferenceGrants, for as long as
// its CRD is there, at the version that the CRD serves.
type istioKind struct {
	discovery.Kind
	*follower
	source *Source
	// offer has capacity 1 and holds what the CRD says now, if run has not
	// taken it yet. The first one comes with the first list of CRDs.
	offer   chan served
	version string // that the running reflector reads
}

func newIstioKind(k discovery.Kind, s *Source) *istioKind {
	i := &istioKind{Kind: k, source: s, offer: make(chan served, 1)}
	read := i.readObject
	if k.New == nil {
		read = i.readGrant
	}
	i.follower = newFollower(config.Key{Group: k.Group, Kind: k.Kind}, read, s.pending)
	if s.options.Status != nil {
		i.follower.gone = func(key config.Key) { s.options.Status(key, nil) }
	}
	return i
}

// set makes offer hold o. For one caller.
func (k *istioKind) set(o served) {
	select {
	case <-k.offer:
	default:
	}
	k.offer <- o
}

// run starts and stops the reflector as the offer changes, until ctx ends. It
// and the reflector take turns with the follower.
func (k *istioKind) run(ctx context.Context) {
	now, stop := served{version: "none yet"}, func() {}
	defer func() { stop() }()
	for {
		var next served
		select {
		case <-ctx.Done():
			return
		case next = <-k.offer:
		}
		if next == now {
			continue
		}
		stop()
		now, stop = next, func() {}
		if next == (served{}) {
			k.clear()
			continue
		}
		stop = k.start(ctx, next)
	}
}

// start runs the reflector; stop returns when it has ended.
func (k *istioKind) start(ctx context.Context, o served) (stop func()) {
	k.version = o.version
	k.reread() // the same objects look different at another version
	ctx, cancel := context.WithCancel(ctx)
	r := k.source.clients.custom(schema.GroupVersion{Group: k.Group, Version: o.version}, o.plural)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		reflect(ctx, r, k.follower, k.source.health)
	}()
	return func() {
		cancel()
		<-ended
		k.source.health.forget(r.name)
	}
}

// readObject is the reader of Istio's kinds.
func (k *istioKind) readObject(m config.Meta, raw runtime.Object) (*discovery.Object, []config.Problem) {
	m.Version = k.version
	o, ok := raw.(*custom)
	if !ok {
		return nil, []config.Problem{unexpectedType(&m, raw)}
	}
	if k.source != nil && k.source.options.Status != nil {
		k.source.options.Status(m.Key, o.Status)
	}
	spec := k.New()
	problems := decode(&m, o.Spec, spec)
	if len(problems) > 0 && problems[0].Severity == config.Error {
		return standIn(m, o.Spec, spec), problems
	}
	out := &discovery.Object{Meta: m, Body: spec}
	switch k.Kind.Kind {
	case "WorkloadEntry":
		out.Unhealthy = config.HealthCounts(m.Annotations) && !healthy(o.Status)
	case "ServiceEntry":
		// Whoever wrote the status is not the user: what cannot be read of it
		// counts as not there.
		status := &networking.ServiceEntryStatus{}
		if len(o.Status) > 0 && lenient.Unmarshal(o.Status, status) == nil {
			out.Status = status
		}
	}
	return out, problems
}

// healthy reports whether a status says so. Until one does, it is not known.
func healthy(text []byte) bool {
	var status struct {
		Conditions []struct{ Type, Status string } `json:"conditions"`
	}
	if len(text) == 0 || json.Unmarshal(text, &status) != nil {
		return false
	}
	for _, c := range status.Conditions {
		if c.Type == config.HealthyCondition {
			return strings.EqualFold(c.Status, "true")
		}
	}
	return false
}

// readGrant is the reader of ReferenceGrants. A field that is not known may be
// what limits one.
func (k *istioKind) readGrant(m config.Meta, raw runtime.Object) (*discovery.Object, []config.Problem) {
	m.Version = k.version
	o, ok := raw.(*custom)
	if !ok {
		return discovery.NoGrant(m), []config.Problem{unexpectedType(&m, raw)}
	}
	grant := &gatewayapi.ReferenceGrant{}
	unknown, err := kjson.UnmarshalStrict(o.Spec, &grant.Spec)
	if err = errors.Join(append(unknown, err)...); err != nil {
		return discovery.NoGrant(m), []config.Problem{config.At(&m, "spec", config.Error, "InvalidValue", "%v: it grants nothing", err)}
	}
	return &discovery.Object{Meta: m, Body: grant}, nil
}

func unexpectedType(m *config.Meta, o any) config.Problem {
	return config.At(m, "", config.Error, "UnexpectedType", "the API server sent a %T in its place", o)
}
