//go:build linux

// Command app is what the pods of the cluster tests run, from an image of its
// own: an application that says who it is (serve), or fails half of the time
// (broken), a steady load that checks every response (drive), an external
// authorizer (authorize), a server of files (files), and the process of a pod's
// sandbox (pause). It
// consumes arguments and the pod's environment, and package e2e/mesh talks to
// it over HTTP.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	role, args := "serve", []string(nil)
	if len(os.Args) > 1 {
		role, args = os.Args[1], os.Args[2:]
	}
	var err error
	switch role {
	case "serve":
		err = serve(ctx, args)
	case "broken":
		err = broken(ctx, args)
	case "drive":
		err = drive(ctx, args)
	case "authorize":
		err = authorize(ctx)
	case "files":
		err = files(ctx, args)
	case "once":
		err = once(ctx, args)
	case "check":
		err = check(ctx, args)
	case "pause":
		pause(ctx)
	default:
		err = fmt.Errorf("unknown role %q: want serve, broken, drive, authorize, files, once, check or pause", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

// serve answers on ports until it is told to end.
func serve(ctx context.Context, ports []string) error {
	if len(ports) == 0 {
		ports = []string{"8080"}
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	id := echo.Identity{
		Pod: host, Namespace: os.Getenv("POD_NAMESPACE"), Version: os.Getenv("VERSION"), Workload: os.Getenv("WORKLOAD"),
	}
	var listeners []net.Listener
	for _, p := range ports {
		if !strings.Contains(p, ":") {
			p = ":" + p
		}
		l, err := net.Listen("tcp", p)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	return echo.Serve(lingering(ctx), id, 10*time.Second, listeners...)
}

// linger is how long an application goes on answering after it was told to
// end: as Kubernetes asks of every one, until others have heard of it.
const linger = 4 * time.Second

// lingering is a context that ends after linger has passed since ctx did.
func lingering(ctx context.Context) context.Context {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(linger, cancel) })
	return later
}

// pause waits, and reaps what a pod with a shared process namespace leaves.
func pause(ctx context.Context) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-ctx.Done():
			return
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
					break
				}
			}
		}
	}
}
