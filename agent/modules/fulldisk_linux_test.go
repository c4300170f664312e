package modules

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbac "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	httpwasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pilotfish-mesh/pilotfish/e2e/fulldisk"
)

// fetchedFrom is an extension whose module is at a URL.
func fetchedFrom(t *testing.T, url string, policy wasm.FailurePolicy) *anypb.Any {
	t.Helper()
	typed, err := anypb.New(&httpwasm.Wasm{Config: &wasm.PluginConfig{FailurePolicy: policy, Vm: &wasm.PluginConfig_VmConfig{VmConfig: &wasm.VmConfig{
		Code: &core.AsyncDataSource{Specifier: &core.AsyncDataSource_Remote{Remote: &core.RemoteDataSource{
			HttpUri: &core.HttpUri{Uri: url, Timeout: durationpb.New(10 * time.Second)}, Sha256: noChecksum,
		}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := anypb.New(&core.TypedExtensionConfig{Name: "n", TypedConfig: typed})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFullDisk: a module that cannot be kept is as good as none, and what stands
// in for it is as its failStrategy says; the reason is told. When there is room
// the module comes.
func TestFullDisk(t *testing.T) {
	fulldisk.Run(t, func(d *fulldisk.Disk) {
		content := append([]byte("\x00asm"), make([]byte, 10<<10)...)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
		defer s.Close()
		log, logs := observer.New(zap.InfoLevel)
		server := New(Options{Folder: filepath.Join(d.Dir, "modules"), Patience: time.Millisecond, Log: zap.New(log)})
		defer server.fetcher.client.CloseIdleConnections()
		d.FillBytes()
		policies := map[string]wasm.FailurePolicy{"/closed": wasm.FailurePolicy_FAIL_CLOSED, "/open": wasm.FailurePolicy_FAIL_OPEN}
		coming := map[string]chan answer{}
		for path, policy := range policies {
			ready := make(chan answer)
			coming[path] = ready
			config := fetchedFrom(t, s.URL+path, policy)
			go server.prepare(t.Context(), "n", config, true, ready)
			a := take(t, ready)
			got, want := &httprbac.RBAC{}, &httprbac.RBAC{}
			if policy == wasm.FailurePolicy_FAIL_CLOSED {
				want.Rules = &rbac.RBAC{} // which lets nobody in
			}
			if unpacked(t, a.config, got); a.whole || !proto.Equal(got, want) {
				t.Errorf("%s: %v stands in, whole: %t", path, got, a.whole)
			}
		}
		for failed := false; !failed; {
			for _, l := range logs.FilterMessage("an extension's module cannot be fetched").All() {
				text, _ := l.ContextMap()["error"].(string)
				if failed = true; !strings.HasSuffix(text, "no space left on device") {
					t.Errorf("the error is %q", text)
				}
			}
		}
		d.Free()
		for path, ready := range coming {
			a := take(t, ready)
			got := &httpwasm.Wasm{}
			unpacked(t, a.config, got)
			file := got.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename()
			if b, err := os.ReadFile(file); !a.whole || err != nil || string(b) != string(content) {
				t.Errorf("%s: the module has %d bytes, %v", path, len(b), err)
			}
		}
		var metrics strings.Builder
		server.WriteMetrics(&metrics)
		if want := `istio_agent_wasm_remote_fetch_count{result="success"} 2`; !strings.Contains(metrics.String(), want) {
			t.Errorf("metrics lack %s: %s", want, &metrics)
		}
		if none := `pilotfish_agent_module_failures_total{reason="fetch"} 0`; strings.Contains(metrics.String(), none) {
			t.Error("the failures are not counted")
		}
		if left, _ := filepath.Glob(filepath.Join(d.Dir, "modules", "fetching-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func take(t *testing.T, from <-chan answer) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case a := <-from:
		return a
	case <-ctx.Done():
		t.Fatal("nothing comes")
		return answer{}
	}
}
