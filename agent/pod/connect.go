package pod

import (
	"fmt"
	"net"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/encoding/protojson"
)

// maxMessage bounds what the control plane may send the agent itself.
const maxMessage = 64 << 20

// connect makes a connection of the agent's own to the control plane, by the
// workload's certificate where the proxy has one.
func (r *runner) connect() (*grpc.ClientConn, error) {
	address, creds := r.settings.proxy.DiscoveryAddress, insecure.NewCredentials()
	if r.settings.secure() && r.source != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(r.source.ClientTLS(host))
	}
	return grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
}

// protoNode is the proxy's node as the agent's own streams send it.
func (s *settings) protoNode() (*core.Node, error) {
	js, err := s.node.JSON()
	if err != nil {
		return nil, err
	}
	n := &core.Node{}
	if err := protojson.Unmarshal(js, n); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return n, nil
}
