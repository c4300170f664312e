package traffic

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	data "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// logs is an access log service. It notes what it receives, with the proxy that
// sent it.
type logs struct {
	als.UnimplementedAccessLogServiceServer
	mu   sync.Mutex
	http map[string][]*data.HTTPAccessLogEntry // by the sender's node id
	tcp  map[string][]*data.TCPAccessLogEntry
}

// StreamAccessLogs implements als.AccessLogServiceServer. The first message of a
// stream says who sends.
func (l *logs) StreamAccessLogs(s als.AccessLogService_StreamAccessLogsServer) error {
	var node string
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if id := m.GetIdentifier().GetNode().GetId(); id != "" {
			node = id
		}
		l.mu.Lock()
		l.http[node] = append(l.http[node], m.GetHttpLogs().GetLogEntry()...)
		l.tcp[node] = append(l.tcp[node], m.GetTcpLogs().GetLogEntry()...)
		l.mu.Unlock()
	}
}

// by returns the entries of a workload's proxy.
func (l *logs) by(workload string) (http []*data.HTTPAccessLogEntry, tcp []*data.TCPAccessLogEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node := range l.http {
		if strings.Contains(node, "~"+workload+"-") {
			http, tcp = append(http, l.http[node]...), append(tcp, l.tcp[node]...)
		}
	}
	return http, tcp
}

// TestAccessLogService: with enableEnvoyAccessLogService both proxies of a
// request or connection send an entry to the service of
// defaultConfig.envoyAccessLogService.
func TestAccessLogService(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &logs{http: map[string][]*data.HTTPAccessLogEntry{}, tcp: map[string][]*data.TCPAccessLogEntry{}}
	server := grpc.NewServer()
	als.RegisterAccessLogServiceServer(server, l)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })

	dir := copied(t, "base")
	stage.Write(t, filepath.Join(dir, "logs.yaml"), fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    enableEnvoyAccessLogService: false
    defaultConfig: {envoyAccessLogService: {address: "%s"}}
---
apiVersion: v1
kind: Service
metadata: {name: raw}
spec: {selector: {app: b}, ports: [{name: tcp, port: 9000, targetPort: 8080}]}
`, listener.Addr()))
	s := &theme{stage.Start(t, dir, up.Loopback)}
	s.send(t, probe{from: "other", url: "http://a/before"})
	s.Delivered(func() { s.Edit("logs.yaml", "Service: false", "Service: true") })
	s.send(t, probe{url: "http://a/logged", headers: headers{"user-agent": "the test"}})
	for _, workload := range []string{"client", "a"} {
		envoytest.Eventually(t, patience, func() string {
			entries, _ := l.by(workload)
			for _, e := range entries {
				r := e.GetRequest()
				if r.GetPath() == "/before" {
					t.Fatal("logged before it was asked for")
				}
				if r.GetPath() == "/logged" && r.GetUserAgent() == "the test" && r.GetAuthority() == "a" &&
					e.GetResponse().GetResponseCode().GetValue() == 200 && e.GetCommonProperties().GetUpstreamCluster() != "" {
					return ""
				}
			}
			return fmt.Sprintf("the proxy of %s has sent %v of %v", workload, entries, l.http)
		})
	}
	s.send(t, probe{url: "http://raw:9000/", headers: headers{"connection": "close"}})
	envoytest.Eventually(t, patience, func() string {
		_, entries := l.by("client")
		for _, e := range entries {
			if strings.HasPrefix(e.GetCommonProperties().GetUpstreamCluster(), "outbound|9000||raw.") && e.GetConnectionProperties().GetReceivedBytes() > 0 {
				return ""
			}
		}
		return fmt.Sprintf("the proxy of the client has sent %v", entries)
	})
}
