package up

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if code, is := RunRole(os.Args); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
