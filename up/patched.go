package up

import (
	"context"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/patched"
)

// patchedTimeout is how long the control plane, which is of this process, may take.
const patchedTimeout = 10 * time.Second

// patched is what EnvoyFilters make of a pod's bootstrap, as the agent in a pod of
// a cluster asks for it; nil if nothing.
func (s *surroundings) patched(p *podPlan, n *agent.Node, bootstrap []byte) ([]byte, error) {
	js, err := n.JSON()
	if err != nil {
		return nil, err
	}
	node := &core.Node{}
	if err := protojson.Unmarshal(js, node); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patchedTimeout)
	defer cancel()
	c := &patched.Client{Node: node, Log: s.notes(p.key()), Connect: func() (*grpc.ClientConn, error) {
		return grpc.NewClient("unix:"+s.discovery.Path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}}
	return c.Wait(ctx, bootstrap), nil
}
