package serve_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// A template that does not parse is counted for as long as it is there.
func TestProblemsAreCounted(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "injector.yaml")
	write := func(templates string) {
		t.Helper()
		text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-sidecar-injector, namespace: istio-system}\ndata:\n  config: '" + templates + "'\n"
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(`templates: {sidecar: "{{ if }}"}`)
	at := runFolder(t, nil, dir)
	const series = `pilotfish_problems{code="InvalidInjection",kind="ConfigMap",severity="error"} 1`
	counted := func(want bool) {
		t.Helper()
		envoytest.Eventually(t, 20*time.Second, func() string {
			_, text := get(t, "http://"+at["serving metrics and debug pages"]+"/metrics")
			if strings.Contains(text, series) != want {
				return "the metrics are not as wanted"
			}
			return ""
		})
	}
	counted(true)
	write(`policy: enabled`)
	counted(false)
}
