package envoytest

import (
	"os"
	"strconv"
	"testing"
)

// Setting is a number that the environment may say, such as how much a test is to
// do: little in each run, more in a long one.
func Setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
