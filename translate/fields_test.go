package translate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	extensions "istio.io/api/extensions/v1alpha1"
	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// roots are the messages whose every field must have one owner.
func roots() []protoreflect.MessageDescriptor {
	return []protoreflect.MessageDescriptor{
		(&networking.VirtualService{}).ProtoReflect().Descriptor(),
		(&networking.DestinationRule{}).ProtoReflect().Descriptor(),
		(&networking.Gateway{}).ProtoReflect().Descriptor(),
		(&networking.ServiceEntry{}).ProtoReflect().Descriptor(),
		(&networking.Sidecar{}).ProtoReflect().Descriptor(),
		(&networking.WorkloadEntry{}).ProtoReflect().Descriptor(),
		(&networking.WorkloadGroup{}).ProtoReflect().Descriptor(),
		(&security.PeerAuthentication{}).ProtoReflect().Descriptor(),
		(&security.RequestAuthentication{}).ProtoReflect().Descriptor(),
		(&security.AuthorizationPolicy{}).ProtoReflect().Descriptor(),
		(&networking.EnvoyFilter{}).ProtoReflect().Descriptor(),
		(&networkingv1beta1.ProxyConfig{}).ProtoReflect().Descriptor(),
		(&extensions.WasmPlugin{}).ProtoReflect().Descriptor(),
		(&extensions.TrafficExtension{}).ProtoReflect().Descriptor(),
		(&telemetry.Telemetry{}).ProtoReflect().Descriptor(),
		(&meshconfig.MeshConfig{}).ProtoReflect().Descriptor(),
	}
}

// TestEveryFieldHasOneOwner walks the descriptors of Istio's API and holds the
// field tables to them: each reachable message has one table, each field one
// line, each line either a feature with the case that proves it or the reason
// why it is unsupported.
func TestEveryFieldHasOneOwner(t *testing.T) {
	reachable := map[protoreflect.FullName]protoreflect.MessageDescriptor{}
	for _, r := range roots() {
		reach(r, reachable)
	}
	tables := map[protoreflect.FullName]Table{}
	for _, table := range Tables() {
		if _, twice := tables[table.Message]; twice {
			t.Errorf("%s has two tables", table.Message)
		}
		tables[table.Message] = table
	}
	for name, md := range reachable {
		table, ok := tables[name]
		if !ok {
			t.Errorf("%s has no table", name)
			continue
		}
		checkTable(t, table, md)
	}
	for name := range tables {
		if reachable[name] == nil {
			t.Errorf("table %s: no object reaches that message", name)
		}
	}
}

func reach(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]protoreflect.MessageDescriptor) {
	if seen[md.FullName()] != nil || !strings.HasPrefix(string(md.FullName()), "istio.") || md.IsMapEntry() {
		return
	}
	seen[md.FullName()] = md
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.IsMap() {
			fd = fd.MapValue()
		}
		if fd.Message() != nil {
			reach(fd.Message(), seen)
		}
	}
}

func checkTable(t *testing.T, table Table, md protoreflect.MessageDescriptor) {
	t.Helper()
	lines := map[protoreflect.Name]int{}
	for _, f := range table.Fields {
		lines[f.Name]++
		where := string(table.Message) + "." + string(f.Name)
		if md.Fields().ByName(f.Name) == nil {
			t.Errorf("%s: the message has no such field", where)
		}
		if (f.Feature == "") == (f.Unsupported == "") {
			t.Errorf("%s: want either a feature or the reason why it is unsupported", where)
		}
		if f.Feature == "" {
			continue
		}
		if f.Elsewhere != "" {
			if _, err := os.Stat(filepath.Join("..", f.Elsewhere)); f.Case != "" || err != nil {
				t.Errorf("%s: package %q does not exist, or there is a case too", where, f.Elsewhere)
			}
			continue
		}
		if _, err := os.Stat(filepath.Join("testdata", f.Case+".txtar")); f.Case == "" || err != nil {
			t.Errorf("%s: case %q does not exist", where, f.Case)
		}
	}
	for i := range md.Fields().Len() {
		name := md.Fields().Get(i).Name()
		if n := lines[name]; n != 1 {
			t.Errorf("%s.%s stands in its table %d times, want once", table.Message, name, n)
		}
	}
}
