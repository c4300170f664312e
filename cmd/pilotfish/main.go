// Package main is the pilotfish command: one file a subcommand, with its
// flags, wiring and exit codes.
package main

import (
	"os"
	"runtime"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/up"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	unused := headroom(os.Args)
	code := execute(os.Args[1:], os.Stdout, os.Stderr)
	runtime.KeepAlive(unused)
	os.Exit(code)
}

// headroom is memory that is never touched, and so takes none: the garbage
// collector counts it, and runs seldom while there is little else. Commands
// that read a configuration, answer and end spend a fifth of their time on
// garbage otherwise.
func headroom(args []string) []byte {
	if len(args) < 2 || !slices.Contains([]string{"ask", "test", "lint", "diff", "replay"}, args[1]) {
		return nil
	}
	return make([]byte, 24<<20)
}
