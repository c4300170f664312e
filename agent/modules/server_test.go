package modules

import (
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	httpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	tcprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// configured is an extension's configuration as the control plane sends it.
func configured(t *testing.T, connections bool, policy wasm.FailurePolicy) *anypb.Any {
	t.Helper()
	c := &wasm.PluginConfig{FailurePolicy: policy, Vm: &wasm.PluginConfig_VmConfig{VmConfig: &wasm.VmConfig{
		Code: &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Remote{Remote: &core.RemoteDataSource{
			HttpUri: &core.HttpUri{Uri: "oci://a/b", Timeout: durationpb.New(1)}, Sha256: noChecksum,
		}}},
		EnvironmentVariables: &wasm.EnvironmentVariables{KeyValues: map[string]string{
			secretVariable: "kubernetes://ns/pull", policyVariable: "Always", versionVariable: "7", "OWN": "x",
		}},
	}}}
	var filter proto.Message = &httpwasm.Wasm{Config: c}
	if connections {
		filter = &tcpwasm.Wasm{Config: c}
	}
	typed, err := anypb.New(filter)
	if err != nil {
		t.Fatal(err)
	}
	out, err := anypb.New(&core.TypedExtensionConfig{Name: "n", TypedConfig: typed})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unpacked(t *testing.T, a *anypb.Any, into proto.Message) {
	t.Helper()
	m := &core.TypedExtensionConfig{}
	if err := a.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	if m.GetName() != "n" {
		t.Errorf("name %q", m.GetName())
	}
	if err := m.GetTypedConfig().UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
}

// TestStandIn reads what is written by hand as Envoy's messages.
func TestStandIn(t *testing.T) {
	for _, c := range []struct {
		connections bool
		policy      wasm.FailurePolicy
		into, want  proto.Message
	}{
		{false, wasm.FailurePolicy_FAIL_CLOSED, &httprbac.RBAC{}, &httprbac.RBAC{Rules: &rbac.RBAC{}}},
		{false, wasm.FailurePolicy_FAIL_RELOAD, &httprbac.RBAC{}, &httprbac.RBAC{Rules: &rbac.RBAC{}}},
		{false, wasm.FailurePolicy_FAIL_OPEN, &httprbac.RBAC{}, &httprbac.RBAC{}},
		{true, wasm.FailurePolicy_FAIL_CLOSED, &tcprbac.RBAC{}, &tcprbac.RBAC{StatPrefix: "tcp.", Rules: &rbac.RBAC{}}},
		{true, wasm.FailurePolicy_FAIL_OPEN, &tcprbac.RBAC{}, &tcprbac.RBAC{StatPrefix: "tcp."}},
	} {
		p, err := parse(configured(t, c.connections, c.policy))
		if err != nil {
			t.Fatal(err)
		}
		unpacked(t, p.standIn(), c.into)
		if !proto.Equal(c.into, c.want) {
			t.Errorf("connections %t, %v: %v, want %v", c.connections, c.policy, c.into, c.want)
		}
	}
}

// TestModuleInPlace: Envoy reads a file, and what is for agents stays with them.
func TestModuleInPlace(t *testing.T) {
	p, err := parse(configured(t, false, wasm.FailurePolicy_FAIL_CLOSED))
	if err != nil {
		t.Fatal(err)
	}
	if m := p.module; m.url.String() != "oci://a/b" || m.sum != "" || m.secret != "kubernetes://ns/pull" || m.version != "7" || m.timeout != 1 {
		t.Errorf("module %+v", m)
	}
	got := &httpwasm.Wasm{}
	unpacked(t, p.with("/x.wasm"), got)
	vm := got.GetConfig().GetVmConfig()
	if vm.GetCode().GetLocal().GetFilename() != "/x.wasm" || len(vm.GetEnvironmentVariables().GetKeyValues()) != 1 || vm.GetEnvironmentVariables().GetKeyValues()["OWN"] != "x" {
		t.Errorf("VM %v", vm)
	}
}
