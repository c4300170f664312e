package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/meshtest/live"
)

// startLive runs the mesh of a suite with real Envoys. stop ends it.
func (f *testFlags) startLive(ctx context.Context, cmd *cobra.Command, s *suite) (engine meshtest.Engine, stop func(), err error) {
	if f.config.kubeconfig != "" || len(s.paths) == 0 {
		return nil, nil, errors.New("--engine envoy runs files, not a live cluster")
	}
	note := func(string) {}
	if f.verbose {
		note = func(line string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), line) }
	}
	o, err := f.config.options(cmd.InOrStdin(), "", s.paths)
	if err != nil {
		return nil, nil, err
	}
	texts, _, err := inputs.Texts(ctx, o) // whose problems were told
	if err != nil {
		return nil, nil, err
	}
	e, err := live.Start(ctx, texts, s.world, f.envoy, note)
	if err != nil {
		return nil, nil, err
	}
	return e, e.Close, nil
}
