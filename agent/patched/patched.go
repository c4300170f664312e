// Package patched asks the control plane what EnvoyFilters make of a proxy's
// bootstrap, before Envoy starts.
//
// It consumes a bootstrap as JSON and produces one in Envoy's binary form, since
// the agent of a pod cannot afford the types that merging takes. agent/pod and up
// use it.
package patched

import (
	"context"
	"errors"
	"fmt"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

// bootstrapType is the type under which the control plane says it; the name that
// is asked for is the bootstrap. Istio's own type for bootstraps is not used: istiod
// answers it with one of its own, which knows nothing of this agent's sockets.
const bootstrapType = "type.googleapis.com/pilotfish.bootstrap.v1.Patched"

// Pauses between attempts to reach the control plane, and how long one that is
// reached may take: a control plane other than pilotfish may never answer.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
	patience   = 30 * time.Second
)

var errSilent = errors.New("the control plane does not say whether EnvoyFilters change the bootstrap")

// Client asks for one proxy.
type Client struct {
	// Connect makes a connection to the control plane.
	Connect func() (*grpc.ClientConn, error)
	Node    *core.Node // the proxy's
	Log     *zap.Logger
}

// Wait returns what EnvoyFilters make of a bootstrap, nil if nothing. It blocks
// until the control plane can be reached, without which Envoy would have nothing
// to do, or ctx ends, and then returns nil.
func (c *Client) Wait(ctx context.Context, bootstrap []byte) []byte {
	pauses := retry.Pauses{First: firstPause, Last: lastPause}
	for ctx.Err() == nil {
		out, err := c.ask(ctx, bootstrap)
		switch {
		case err == nil:
			return out
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errSilent):
			c.Log.Warn("starting without patches of the bootstrap", zap.Error(err))
			return nil
		}
		next := pauses.Next()
		c.Log.Warn("cannot ask for patches of the bootstrap; Envoy starts when that is answered", zap.Error(err), zap.Duration("next_attempt_in", next))
		retry.Wait(ctx, next)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, bootstrap []byte) ([]byte, error) {
	conn, err := c.Connect()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(&discovery.DiscoveryRequest{Node: c.Node, TypeUrl: bootstrapType, ResourceNames: []string{string(bootstrap)}}); err != nil {
		return nil, err
	}
	r, err := s.Recv()
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, errSilent
	case err != nil:
		return nil, err
	case r.GetTypeUrl() != bootstrapType || len(r.GetResources()) > 1:
		return nil, fmt.Errorf("the control plane answers with %d of %s", len(r.GetResources()), r.GetTypeUrl())
	case len(r.GetResources()) == 0:
		return nil, nil
	}
	return r.GetResources()[0].GetValue(), nil
}
