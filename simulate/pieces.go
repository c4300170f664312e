package simulate

import (
	"sync"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// pieces remembers the decoded virtual hosts of route tables by where their
// bytes are: one that many tables share is decoded once. What it returns is
// shared and never written. Safe for concurrent use.
type pieces struct {
	mu    sync.Mutex // guards what follows
	hosts map[*byte]*route.VirtualHost
}

func newPieces() *pieces { return &pieces{hosts: map[*byte]*route.VirtualHost{}} }

// routeConfiguration decodes a route table, whose pieces that are one virtual
// host each are shared.
func (p *pieces) routeConfiguration(r *translate.Resource) (*route.RouteConfiguration, error) {
	out := &route.RouteConfiguration{}
	var hosts []*route.VirtualHost
	var rest []byte
	for _, piece := range r.Body {
		body, ok := virtualHostOf(piece)
		if !ok {
			rest = append(rest, piece...)
			continue
		}
		vh, err := p.host(body)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, vh)
	}
	if err := proto.Unmarshal(rest, out); err != nil {
		return nil, err
	}
	if len(out.GetVirtualHosts()) > 0 && len(hosts) > 0 { // their order is that of the whole
		out = &route.RouteConfiguration{}
		return out, proto.Unmarshal(r.Bytes(), out)
	}
	out.VirtualHosts = append(out.VirtualHosts, hosts...)
	return out, nil
}

// virtualHostOf is the message in a piece that is exactly one field
// RouteConfiguration.virtual_hosts (2).
func virtualHostOf(piece []byte) (body []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(piece)
	if n < 0 || number != 2 || kind != protowire.BytesType {
		return nil, false
	}
	body, m := protowire.ConsumeBytes(piece[n:])
	return body, m > 0 && n+m == len(piece) && len(body) > 0
}

func (p *pieces) host(body []byte) (*route.VirtualHost, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if vh := p.hosts[&body[0]]; vh != nil {
		return vh, nil
	}
	vh := &route.VirtualHost{}
	if err := proto.Unmarshal(body, vh); err != nil {
		return nil, err
	}
	p.hosts[&body[0]] = vh
	return vh, nil
}
