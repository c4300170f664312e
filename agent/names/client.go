package names

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/encoding/protojson"
)

// tableType is the type URL of name tables.
const tableType = "type.googleapis.com/istio.networking.nds.v1.NameTable"

// Client keeps a server's table current by ADS.
type Client struct {
	Address     string // host:port of the control plane
	Credentials credentials.TransportCredentials
	Node        []byte // the proxy's node, JSON
	Namespace   string // the proxy's
	Server      *Server
	Log         *zap.Logger
}

// Pauses between attempts to reach the control plane.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Run works until ctx ends. Without a control plane the last table stays.
func (c *Client) Run(ctx context.Context) error {
	node := &core.Node{}
	if err := protojson.Unmarshal(c.Node, node); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	pause := firstPause
	for {
		began := time.Now()
		err := c.stream(ctx, node)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		next := pause - rand.N(pause/2)
		c.Log.Info("the stream of names has ended; the names of before stay", zap.Error(err), zap.Duration("next_attempt_in", next))
		pause = min(2*pause, lastPause)
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (c *Client) stream(ctx context.Context, node *core.Node) error {
	conn, err := grpc.NewClient("dns:///"+c.Address, grpc.WithTransportCredentials(c.Credentials), grpc.WithNoProxy(),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
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
	if err := s.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: tableType}); err != nil {
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
