package translate_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// TestEnvoyTakesListeners gives every listener of every case to a real Envoy.
// Each gets a name and a port of its own, since an Envoy wants both once;
// everything else stays as it was made.
func TestEnvoyTakesListeners(t *testing.T) {
	envoy := envoytest.Binary(t)
	var listeners []json.RawMessage
	named := map[string]bool{} // clusters
	port := uint32(20000)
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		archive, err := txtar.ParseFile(path)
		if err != nil {
			return err
		}
		w := newWorld(t, archive)
		if w.proxy.HasExtension("istio.stats") || w.proxy.Generator != "" {
			return nil // for Envoys that carry extensions which a stock one does not, or for no Envoy
		}
		for _, r := range w.all("listener") {
			l := &listener.Listener{}
			if err := proto.Unmarshal(r.Bytes(), l); err != nil {
				return err
			}
			l.Name = path + " " + l.Name
			port++
			if s := l.GetAddress().GetSocketAddress(); s != nil {
				s.PortSpecifier = portOf(port)
			}
			if p := l.GetAddress().GetPipe(); p != nil {
				p.Path = fmt.Sprint("/tmp/", port)
			}
			for _, a := range l.GetAdditionalAddresses() {
				a.GetAddress().GetSocketAddress().PortSpecifier = portOf(port)
			}
			js, err := protojson.Marshal(l)
			if err != nil {
				return err
			}
			listeners = append(listeners, js)
			for _, c := range r.Refs.Clusters {
				named[c] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, bootstrapWith(t, listeners, slices.Sorted(maps.Keys(named))...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "error").CombinedOutput()
	if err != nil {
		t.Errorf("of %d listeners Envoy refuses: %v\n%s", len(listeners), err, out)
	}
}

// bootstrapWith is a bootstrap with static listeners and clusters, whose routes
// and secrets come over ADS.
func bootstrapWith(t *testing.T, listeners []json.RawMessage, clusters ...string) []byte {
	t.Helper()
	all := []any{}
	clusters = append(clusters, "ads", "sds-grpc", "envoy_accesslog_service", "pilotfish-telemetry", "pilotfish-modules")
	slices.Sort(clusters)
	for _, name := range slices.Compact(clusters) {
		all = append(all, staticCluster(name))
	}
	out, err := json.Marshal(map[string]any{
		"node":  map[string]string{"id": "validate", "cluster": "validate"},
		"admin": map[string]any{},
		"dynamic_resources": map[string]any{"ads_config": map[string]any{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3",
			"grpc_services": []any{map[string]any{"envoy_grpc": map[string]string{"cluster_name": "ads"}}},
		}},
		"static_resources": map[string]any{
			"listeners": listeners,
			"clusters":  all,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func staticCluster(name string) map[string]any {
	return map[string]any{
		"name": name, "type": "STATIC",
		"typed_extension_protocol_options": map[string]any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
			},
		},
		"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{
			"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": map[string]any{
				"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 1},
			}}}},
		}}},
	}
}

func portOf(port uint32) *core.SocketAddress_PortValue {
	return &core.SocketAddress_PortValue{PortValue: port}
}
