//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// broken answers as serve does, but every second request fails. It is ready
// all the same: probes ask for /ready, which it has.
func broken(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("broken wants a port")
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	id := echo.Identity{Pod: pod, Version: os.Getenv("VERSION"), Workload: os.Getenv("WORKLOAD")}
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1)%2 == 0 {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		w.Header().Set(echo.PodHeader, pod)
		_ = json.NewEncoder(w).Encode(echo.Answer{Identity: id})
	})
	server := &http.Server{Addr: ":" + strconv.Itoa(port), Handler: mux, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(lingering(ctx), func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
