package serve

import (
	"context"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// workloadType is the type URL under which agents ask who has an address, for
// the metrics of who called whom. Names are addresses, and resources Structs
// of what metrics say of a workload; an address that nobody has is left out.
const workloadType = "type.googleapis.com/pilotfish.telemetry.v1.Workload"

// mostAsked is how many addresses one question may hold.
const mostAsked = 256

// byAddress are the workloads of one Mesh.
type byAddress struct {
	mesh *config.Mesh
	of   map[string]*config.Workload
}

// workloads answers those questions from the newest Mesh.
type workloads struct {
	mesh  func() *config.Mesh
	index atomic.Pointer[byAddress]
}

// answer implements snapshot.Answer.
func (w *workloads) answer(_ context.Context, q snapshot.Question) (snapshot.Reply, error) {
	of := w.current()
	var out snapshot.Reply
	for _, address := range q.Names[:min(len(q.Names), mostAsked)] {
		found := of[address]
		if found == nil {
			continue
		}
		labels := map[string]any{}
		for k, v := range found.Labels {
			labels[k] = v
		}
		s, err := structpb.NewStruct(map[string]any{
			"address": address, "workload": found.WorkloadName(), "namespace": found.Namespace, "labels": labels,
		})
		if err != nil {
			continue // a label that is no text
		}
		r, err := translate.NewResource(address, s, translate.Refs{})
		if err != nil {
			return out, err
		}
		out.Resources = append(out.Resources, snapshot.Part{Resource: r})
	}
	return out, nil
}

// current is the index of the newest Mesh, made when it is first asked for.
func (w *workloads) current() map[string]*config.Workload {
	m := w.mesh()
	if m == nil {
		return nil
	}
	if known := w.index.Load(); known != nil && known.mesh == m {
		return known.of
	}
	made := &byAddress{mesh: m, of: map[string]*config.Workload{}}
	for p := range m.Workloads.All() {
		if p.HostNetwork {
			continue // its address is the node's and stands for many
		}
		for _, ip := range p.IPs {
			made.of[ip] = p
		}
	}
	w.index.Store(made)
	return made.of
}

// withAnswers adds to the answers that a server gives.
func withAnswers(o snapshot.Options, answers map[string]snapshot.Answer) snapshot.Options {
	for url, a := range o.Answers {
		answers[url] = a
	}
	o.Answers = answers
	return o
}
