package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
)

func newWait() *cobra.Command {
	var url string
	var timeout, request, period int
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the proxy is ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(timeout)*time.Second)
			defer cancel()
			return pod.Wait(ctx, url, time.Duration(request)*time.Millisecond, time.Duration(period)*time.Millisecond)
		},
	}
	f := cmd.Flags()
	f.IntVar(&timeout, "timeoutSeconds", 60, "how long to wait")
	f.IntVar(&request, "requestTimeoutMillis", 500, "how long one question may take")
	f.IntVar(&period, "periodMillis", 500, "the pause between questions")
	f.StringVar(&url, "url", "http://localhost:15021/healthz/ready", "what to ask")
	return cmd
}
