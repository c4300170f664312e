package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
)

// profiler takes CPU profiles of the server, and of the fleet, around each work.
// The zero value takes none.
type profiler struct {
	dir string
}

// profileSeconds is how long one of the server's profiles is: a work has as many as
// it takes, which `go tool pprof` adds up.
const profileSeconds = 2

// around profiles work of some name. What comes of the server is told on its end.
func (p profiler) around(ctx context.Context, s *target, name string, work func() error) error {
	if p.dir == "" {
		return work()
	}
	name = filepath.Join(p.dir, strings.ReplaceAll(s.name+"-"+name, " ", "-"))
	own, err := os.Create(name + "-fleet.pprof")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	taking, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	failures := make([]error, len(s.servers))
	for i, server := range s.servers {
		wg.Go(func() {
			for n := 0; taking.Err() == nil && failures[i] == nil; n++ {
				failures[i] = server.profile(ctx, fmt.Sprintf("%s-%d-%d.pprof", name, i, n))
			}
		})
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return err
	}
	err = work()
	pprof.StopCPUProfile()
	end()
	wg.Wait()
	for _, f := range failures {
		if err == nil {
			err = f
		}
	}
	return err
}

// profile takes one of the server's profiles.
func (s *server) profile(ctx context.Context, file string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.monitoring, profileSeconds), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("profile: %w; does the server serve --pprof at $MONITORING_ADDRESS?", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", answer.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, answer.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
