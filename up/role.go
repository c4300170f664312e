package up

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// The roles in which a mesh starts this program again.
const (
	echoRole   = "up-echo"
	reaperRole = "up-reaper"
)

// RunRole does what a mesh started this program again for, if args (those of
// the process, the program's name first) say so. Every main and TestMain that
// may start a Mesh calls it before anything else and exits with code.
func RunRole(args []string) (code int, is bool) {
	if len(args) != 3 {
		return 0, false
	}
	switch args[1] {
	case echoRole:
		if err := runEcho(args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1, true
		}
		return 0, true
	case reaperRole:
		return reap(args[2]), true
	}
	return 0, false
}

// echoArgs is what an echo process is started with, as JSON. Its listening
// sockets are the descriptors from 3.
type echoArgs struct {
	Identity  echo.Identity
	Listeners int
}

// drainEcho is how long requests in flight may take after the end was asked for.
const drainEcho = 2 * time.Second

func runEcho(arg string) error {
	var a echoArgs
	if err := json.Unmarshal([]byte(arg), &a); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	var listeners []net.Listener
	for i := range a.Listeners {
		f := os.NewFile(uintptr(3+i), "listener "+strconv.Itoa(i))
		l, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		listeners = append(listeners, l)
	}
	signal.Ignore(syscall.SIGINT) // Ctrl-C is for the parent, which stops this one in order
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return echo.Serve(ctx, a.Identity, drainEcho, listeners...)
}
