package kube_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/fulldisk"
)

// TestFullDisk runs on a file system that is full: the last file stays as it is,
// what is served goes on, and the state is saved again when there is room.
func TestFullDisk(t *testing.T) {
	fulldisk.Run(t, func(d *fulldisk.Disk) {
		s, c := cluster(t)
		apply(t, c, savedObjects)
		file := filepath.Join(d.Dir, "view")
		w := watchWith(t, s.Config(), kube.Options{Saved: file, SavePace: 20 * time.Millisecond})
		w.synced(t)
		var before []byte
		envoytest.Eventually(t, patience, func() string {
			var err error
			if before, err = os.ReadFile(file); err != nil {
				return err.Error()
			}
			return ""
		})
		d.FillBytes()
		apply(t, c, "{apiVersion: v1, kind: Service, metadata: {name: late, namespace: saved}, spec: {ports: [{name: http, port: 80}]}}")
		w.logged(t, "the state cannot be saved: the file is as old as it was", 1)
		if _, ok := w.store.Mesh().Services.Get("saved", "late.saved.svc.cluster.local"); !ok {
			t.Error("the change is not served")
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the last file is not as it was (%v)", err)
		}
		envoytest.Eventually(t, patience, func() string {
			if w.source.SaveFailures() < 3 {
				return "it is not tried again"
			}
			return ""
		})
		if lines := w.lines("cannot be saved"); len(lines) != 1 {
			t.Errorf("it is said %d times", len(lines))
		}
		d.Free()
		w.logged(t, "the state is saved again", 1)
		if after, err := os.ReadFile(file); err != nil || bytes.Equal(before, after) {
			t.Errorf("the file does not hold the change (%v)", err)
		}
	})
}
