package translate_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// TestEnvoyTakesRoutes gives every route table of every case to a real Envoy,
// in a listener of its own.
func TestEnvoyTakesRoutes(t *testing.T) {
	envoy := envoytest.Binary(t)
	var listeners []json.RawMessage
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		archive, err := txtar.ParseFile(path)
		if err != nil {
			return err
		}
		for _, r := range newWorld(t, archive).all("route") {
			table := &route.RouteConfiguration{}
			if err := proto.Unmarshal(r.Bytes(), table); err != nil {
				return err
			}
			listeners = append(listeners, listenerWithTable(t, fmt.Sprintf("%s %s", path, r.Name), 20000+len(listeners), table))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	envoyTakes(t, envoy, listeners)
}

func listenerWithTable(t *testing.T, name string, port int, table *route.RouteConfiguration) json.RawMessage {
	t.Helper()
	js, err := protojson.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	filter := func(name, kind string) map[string]any {
		return map[string]any{"name": name, "typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http." + kind}}
	}
	out, err := json.Marshal(map[string]any{
		"name":    name,
		"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}},
		"filter_chains": []any{map[string]any{"filters": []any{map[string]any{
			"name": "envoy.filters.network.http_connection_manager",
			"typed_config": map[string]any{
				"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
				"stat_prefix": "routes", "route_config": json.RawMessage(js),
				"http_filters": []any{
					filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
					filter("envoy.filters.http.cors", "cors.v3.Cors"),
					filter("envoy.filters.http.router", "router.v3.Router"),
				},
			},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
