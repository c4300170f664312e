package serve

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// bootstrapType is the type URL under which agents ask what EnvoyFilters make of
// their proxy's bootstrap. The one name is the bootstrap as JSON, the resource an
// Envoy bootstrap; there is none if nothing changes it.
const bootstrapType = "type.googleapis.com/pilotfish.bootstrap.v1.Patched"

// mostFailures bounds the remembered failures of patches.
const mostFailures = 256

// bootstraps answers those questions from what is in effect.
type bootstraps struct {
	mesh   func() *config.Mesh // nil before there is one
	index  func(*config.Mesh) *translate.Index
	failed *lru.Cache[failedPatch, struct{}]
}

// failedPatch is a problem of one version of an EnvoyFilter.
type failedPatch struct {
	problem config.Problem
	hash    config.Hash
}

func newBootstraps(mesh func() *config.Mesh, index func(*config.Mesh) *translate.Index) *bootstraps {
	failed, err := lru.New[failedPatch, struct{}](mostFailures)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &bootstraps{mesh, index, failed}
}

// answer implements snapshot.Answer.
func (b *bootstraps) answer(_ context.Context, q snapshot.Question) (snapshot.Reply, error) {
	if len(q.Names) != 1 {
		return snapshot.Reply{}, status.Errorf(codes.InvalidArgument, "%d names; want one, the bootstrap as JSON", len(q.Names))
	}
	m := b.mesh()
	if m == nil {
		return snapshot.Reply{}, status.Error(codes.Unavailable, "there is no configuration yet")
	}
	r, problems, err := b.index(m).Bootstrap(q.Proxy, []byte(q.Names[0]))
	if err != nil {
		return snapshot.Reply{}, status.Error(codes.InvalidArgument, err.Error())
	}
	for _, p := range problems {
		if f, ok := m.EnvoyFilters.Get(p.Object.Namespace, p.Object.Name); ok {
			b.failed.Add(failedPatch{p, f.Hash}, struct{}{})
		}
	}
	if r == nil {
		return snapshot.Reply{}, nil
	}
	return snapshot.Reply{Resources: []snapshot.Part{{Resource: r, Type: translate.BootstrapType}}}, nil
}

// problems are the failures of EnvoyFilters that are still what they were.
func (b *bootstraps) problems() []config.Problem {
	m := b.mesh()
	if m == nil {
		return nil
	}
	var out []config.Problem
	for _, f := range b.failed.Keys() {
		if now, ok := m.EnvoyFilters.Get(f.problem.Object.Namespace, f.problem.Object.Name); ok && now.Hash == f.hash {
			out = append(out, f.problem)
		}
	}
	return out
}
