// Package main is the pilotfish command: one file a subcommand, with its
// flags, wiring and exit codes.
package main

import (
	"os"

	"github.com/pilotfish-mesh/pilotfish/up"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if code, is := up.RunRole(os.Args); is {
		os.Exit(code)
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}
