package main

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/pilotfish-mesh/pilotfish/serve"
)

// Debug information is open when the variable that istiod reads says so clearly,
// and a flag goes before it.
func TestDebugAuthentication(t *testing.T) {
	for _, c := range []struct {
		variable string
		args     []string
		open     bool
	}{
		{"", nil, false},
		{"true", nil, false},
		{"false", nil, true},
		{"no", nil, false},
		{"false", []string{"--debug-auth=true"}, false},
		{"", []string{"--debug-auth=false"}, true},
	} {
		t.Setenv("ENABLE_DEBUG_ENDPOINT_AUTH", c.variable)
		f, o := pflag.NewFlagSet("", pflag.ContinueOnError), serve.Options{}
		inClusterFlags(f, &o)
		if err := f.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if o.OpenDebug != c.open {
			t.Errorf("ENABLE_DEBUG_ENDPOINT_AUTH=%q %q: open %v, want %v", c.variable, c.args, o.OpenDebug, c.open)
		}
	}
}
