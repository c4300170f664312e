package translate

import (
	"math"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	xdstype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// connectionPool applies the connection pool settings of the policy over the
// mesh's. Limits that nobody set are lifted: Envoy's own are far below what a
// service between two sidecars needs.
func (d *clusterDraft) connectionPool() {
	pool := d.policy.GetConnectionPool()
	d.out.ConnectTimeout = d.settings.Mesh.GetConnectTimeout()
	if t := pool.GetTcp().GetConnectTimeout(); t != nil {
		d.out.ConnectTimeout = t
	}
	limits := unlimited()
	setLimit(&limits.MaxConnections, pool.GetTcp().GetMaxConnections())
	setLimit(&limits.MaxPendingRequests, pool.GetHttp().GetHttp1MaxPendingRequests())
	setLimit(&limits.MaxRequests, pool.GetHttp().GetHttp2MaxRequests())
	setLimit(&limits.MaxRetries, pool.GetHttp().GetMaxRetries())
	limits.RetryBudget = retryBudget(d.policy.GetRetryBudget())
	d.out.CircuitBreakers = &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{limits}}

	d.keepalive(d.settings.Mesh.GetTcpKeepalive())
	d.keepalive(pool.GetTcp().GetTcpKeepalive())
	d.connectionLifetime(pool)
	if pool.GetHttp().GetUseClientProtocol() {
		d.useClientProtocol()
	}
	d.streams(pool.GetHttp())
}

func unlimited() *cluster.CircuitBreakers_Thresholds {
	return &cluster.CircuitBreakers_Thresholds{
		MaxConnections:     wrapperspb.UInt32(math.MaxUint32),
		MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
		MaxRequests:        wrapperspb.UInt32(math.MaxUint32),
		MaxRetries:         wrapperspb.UInt32(math.MaxUint32),
	}
}

// setLimit sets a limit that the API counts from 1: 0 is its default.
func setLimit(limit **wrapperspb.UInt32Value, v int32) {
	if v > 0 {
		*limit = wrapperspb.UInt32(uint32(v))
	}
}

func retryBudget(b *networking.TrafficPolicy_RetryBudget) *cluster.CircuitBreakers_Thresholds_RetryBudget {
	if b == nil {
		return nil
	}
	out := &cluster.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &xdstype.Percent{Value: 20},
		BudgetInterval:      b.GetBudgetInterval(),
		MinRetryConcurrency: wrapperspb.UInt32(3),
	}
	if b.GetPercent() != nil {
		out.BudgetPercent.Value = b.GetPercent().GetValue()
	}
	if b.GetMinRetryConcurrency() > 0 {
		out.MinRetryConcurrency = wrapperspb.UInt32(b.GetMinRetryConcurrency())
	}
	return out
}

// keepalive sets what k names; what it leaves out stays as it is, at first the
// operating system's.
func (d *clusterDraft) keepalive(k *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive) {
	if k == nil {
		return
	}
	if d.out.UpstreamConnectionOptions == nil {
		d.out.UpstreamConnectionOptions = &cluster.UpstreamConnectionOptions{TcpKeepalive: &core.TcpKeepalive{}}
	}
	out := d.out.UpstreamConnectionOptions.TcpKeepalive
	if k.GetProbes() > 0 {
		out.KeepaliveProbes = wrapperspb.UInt32(k.GetProbes())
	}
	if k.GetTime() != nil {
		out.KeepaliveTime = wrapperspb.UInt32(uint32(k.GetTime().GetSeconds()))
	}
	if k.GetInterval() != nil {
		out.KeepaliveInterval = wrapperspb.UInt32(uint32(k.GetInterval().GetSeconds()))
	}
}

// connectionLifetime bounds how long connections live and how many requests
// they carry. HTTP's idle timeout goes before TCP's.
func (d *clusterDraft) connectionLifetime(pool *networking.ConnectionPoolSettings) {
	idle := pool.GetHttp().GetIdleTimeout()
	if idle == nil {
		idle = pool.GetTcp().GetIdleTimeout()
	}
	age := pool.GetTcp().GetMaxConnectionDuration()
	requests := pool.GetHttp().GetMaxRequestsPerConnection()
	if idle == nil && age == nil && requests <= 0 {
		return
	}
	common := &core.HttpProtocolOptions{IdleTimeout: idle, MaxConnectionDuration: age}
	setLimit(&common.MaxRequestsPerConnection, requests)
	d.httpOptions().CommonHttpProtocolOptions = common
}

// streams sets what only HTTP/2 connections have.
func (d *clusterDraft) streams(pool *networking.ConnectionPoolSettings_HTTPSettings) {
	h2 := d.http2()
	if h2 == nil {
		h2 = d.http.GetUseDownstreamProtocolConfig().GetHttp2ProtocolOptions()
	}
	if h2 == nil {
		return
	}
	setLimit(&h2.MaxConcurrentStreams, pool.GetMaxConcurrentStreams())
	if k := pool.GetHttp2KeepAlive(); k != nil {
		h2.ConnectionKeepalive = &core.KeepaliveSettings{Interval: k.GetInterval(), Timeout: k.GetTimeout()}
	}
}
