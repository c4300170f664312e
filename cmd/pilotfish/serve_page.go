package main

import (
	"context"
	"net/http"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
)

// configPage makes the page on which requests are asked about. Where it is
// served, only clients of the same machine are let in: whoever may forward a
// port of the pod.
func configPage(ctx context.Context) func(mesh func() *config.Mesh) http.Handler {
	return func(mesh func() *config.Mesh) http.Handler {
		live := report.NewLive("control plane", mesh, nil)
		go live.Run(ctx)
		return dashboard.Guard(nil, live)
	}
}
