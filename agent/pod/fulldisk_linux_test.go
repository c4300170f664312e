package pod_test

import (
	"os"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/e2e/fulldisk"
)

// TestFullDisk: an agent that cannot write Envoy's bootstrap ends, and says what
// could not be written and why.
func TestFullDisk(t *testing.T) {
	fulldisk.Run(t, func(d *fulldisk.Disk) {
		w := newWorld(t, ca.Options{})
		proxy := w.root + "/etc/istio/proxy"
		if err := os.MkdirAll(w.root+"/etc/istio", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(d.Dir, proxy); err != nil {
			t.Fatal(err)
		}
		d.FillBytes()
		r := w.start(w.options(nil))
		<-r.done
		const want = "/etc/istio/proxy/envoy-rev.json: no space left on device"
		if r.err == nil || !strings.HasPrefix(r.err.Error(), "bootstrap: ") || !strings.HasSuffix(r.err.Error(), want) {
			t.Errorf("ends with %v", r.err)
		}
		d.Free()
		w.awaitReady(w.start(w.options(nil)))
	})
}
