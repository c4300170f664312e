package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newRequest() *cobra.Command {
	var port int
	cmd := &cobra.Command{
		Use:   "request METHOD PATH [BODY]",
		Short: "Ask Envoy's admin interface, or another port of this pod",
		Example: `  pilotfish-agent request GET stats/prometheus
  pilotfish-agent request --debug-port=15020 POST drain`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := ""
			if len(args) == 3 {
				body = args[2]
			}
			url := fmt.Sprintf("http://127.0.0.1:%d/%s", port, strings.TrimPrefix(args[1], "/"))
			req, err := http.NewRequestWithContext(cmd.Context(), strings.ToUpper(args[0]), url, strings.NewReader(body))
			if err != nil {
				return err
			}
			resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.Copy(cmd.OutOrStdout(), resp.Body); err != nil {
				return err
			}
			if resp.StatusCode >= http.StatusMultipleChoices {
				return fmt.Errorf("%s %s: %s", args[0], args[1], resp.Status)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&port, "debug-port", 15000, "the port to ask")
	return cmd
}
