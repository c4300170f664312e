package names

import (
	"context"
	"errors"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

// tableType is the type URL of name tables.
const tableType = "type.googleapis.com/istio.networking.nds.v1.NameTable"

// Client keeps a server's table current by ADS.
type Client struct {
	// Connect makes a connection to the control plane.
	Connect   func() (*grpc.ClientConn, error)
	Node      *core.Node // the proxy's
	Namespace string     // the proxy's
	Server    *Server
	Log       *zap.Logger
}

// Pauses between attempts to reach the control plane.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Run works until ctx ends. Without a control plane the last table stays.
func (c *Client) Run(ctx context.Context) {
	pauses := retry.Pauses{First: firstPause, Last: lastPause}
	for ctx.Err() == nil {
		began := time.Now()
		err := c.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pauses.Reset()
		}
		next := pauses.Next()
		c.Log.Info("the stream of names has ended; the names of before stay", zap.Error(err), zap.Duration("next_attempt_in", next))
		retry.Wait(ctx, next)
	}
}

func (c *Client) stream(ctx context.Context) error {
	conn, err := c.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := s.Send(&discovery.DiscoveryRequest{Node: c.Node, TypeUrl: tableType}); err != nil {
		return err
	}
	version := ""
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		ack := &discovery.DiscoveryRequest{TypeUrl: tableType, ResponseNonce: r.GetNonce(), VersionInfo: r.GetVersionInfo()}
		if err := c.take(r); err != nil {
			c.Log.Error("a table of names is broken; the one of before stays", zap.Error(err))
			ack.VersionInfo, ack.ErrorDetail = version, &rpc.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		} else {
			version = r.GetVersionInfo()
		}
		if err := s.Send(ack); err != nil {
			return err
		}
	}
}

func (c *Client) take(r *discovery.DiscoveryResponse) error {
	if len(r.GetResources()) != 1 {
		return errors.New("want one table")
	}
	t, err := Parse(r.GetResources()[0].GetValue(), c.Namespace)
	if err != nil {
		return err
	}
	c.Server.Use(t)
	c.Log.Debug("names", zap.Int("number", t.Len()))
	return nil
}
