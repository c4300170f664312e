package snapshot_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(loadAddr); addr != "" {
		runLoad(addr)
		return
	}
	goleak.VerifyTestMain(m)
}
