package examples

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
)

// TestWasmPlugin: the module is built of its source, fetched by HTTP with its
// checksum once, and does what the text says, also when its configuration changes.
func TestWasmPlugin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.wasm")
	build := exec.Command("go", "build", "-trimpath", "-buildmode=c-shared", "-o", file, ".")
	build.Dir = "../../examples/wasm-plugin/module"
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(module)
	}))
	defer files.Close()
	sum := fmt.Sprintf("%x", sha256.Sum256(module))
	x := read(t, "wasm-plugin", "plugin.yaml", func(dir string) {
		path := filepath.Join(dir, "plugin.yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		stage.Write(t, path, strings.NewReplacer("http://127.0.0.1:8088", files.URL, "# sha256: …", "sha256: "+sum).Replace(string(text)))
	})
	x.next(0)
	if n := asked.Load(); n != 1 {
		t.Errorf("the module was asked for %d times, want once", n)
	}
	// Other keys, and the same module.
	x.Edit("plugin.yaml", "4f2c: anna", "5a5a: carl")
	x.lines = []line{{`curl -i -H "x-api-key: 5a5a" "$GATEWAY/"`, `"X-User":["carl"]`}, {`curl -i -H "x-api-key: 4f2c" "$GATEWAY/"`, "401"}}
	x.next(0)
	if n := asked.Load(); n != 1 {
		t.Errorf("the module was asked for %d times after its configuration changed, want once", n)
	}
}
