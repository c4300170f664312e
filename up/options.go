package up

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/serve"
)

// Mode is how pods are kept apart.
type Mode string

// The modes.
const (
	// Auto is Namespaces where this process may make them, else Loopback.
	Auto Mode = "auto"
	// Namespaces gives each pod a network namespace with a pod's redirection.
	Namespaces Mode = "netns"
	// Loopback lets all pods share the machine's loopback range.
	Loopback Mode = "loopback"
)

// Options are what a Mesh is started with.
type Options struct {
	// Paths are folders and files of YAML.
	Paths []string
	// Envoy is the binary.
	Envoy string
	// Mode is Auto if empty.
	Mode Mode
	// StateOfTheWorld makes the Envoys ask for the older variant of ADS.
	StateOfTheWorld bool
	// LoadRate is how many requests a second are sent to the first gateway;
	// 0 means none.
	LoadRate int
	// PageAddress is where the web page is served, such as 127.0.0.1:0; empty
	// means not at all.
	PageAddress string
	// InternalKeys lets the keys of token issuers be fetched from addresses of
	// the inside, such as this machine's.
	InternalKeys bool
	// Environment are those variables of this process's environment that headers
	// of extension providers may have the values of (HttpHeader.envName); something
	// that says which variable it is stands for others.
	Environment []string
	// Build is shown at /version of the page's address.
	Build serve.Build
	// Note receives one line at a time about what happens, for people. It may
	// be called from any goroutine; nil discards.
	Note func(string)
}

// variable is the value of a variable that MeshConfig names.
func (o *Options) variable(name string) (string, bool) {
	if !slices.Contains(o.Environment, name) {
		return config.Placeholder(name), true
	}
	return os.LookupEnv(name)
}

func (o *Options) check() error {
	if len(o.Paths) == 0 {
		return errors.New("no folder given")
	}
	for _, p := range o.Paths {
		if _, err := os.Stat(p); err != nil {
			return err
		}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	switch o.Mode {
	case "":
		o.Mode = Auto
	case Auto, Namespaces, Loopback:
	default:
		return fmt.Errorf("mode %q: want auto, netns or loopback", o.Mode)
	}
	return nil
}

// openEnvoy finds the binary and makes sure that it is one.
func openEnvoy(path string) (*os.File, error) {
	if path == "" {
		return nil, errors.New("no Envoy: set ENVOY=/path/to/envoy (tools/envoy.sh obtains one and prints its path)")
	}
	found, err := exec.LookPath(path)
	if err != nil {
		for u := err; u != nil; u = errors.Unwrap(u) { // what the path already says is left out
			err = u
		}
		return nil, fmt.Errorf("no Envoy at %s: %w", path, err)
	}
	out, err := exec.Command(found, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "version:") {
		return nil, fmt.Errorf("%s does not run as an Envoy: --version: %s", found, oneLine(string(out), err))
	}
	return os.Open(found)
}

func oneLine(out string, err error) string {
	out = strings.Join(strings.Fields(out), " ")
	if len(out) > 100 {
		out = out[:100] + "…"
	}
	switch {
	case err == nil:
		return fmt.Sprintf("%q", out)
	case out == "":
		return err.Error()
	default:
		return fmt.Sprintf("%v: %q", err, out)
	}
}

// newGround makes the ground of a mode.
func newGround(mode Mode, note func(string)) (ground, error) {
	if mode != Loopback {
		g, err := newNamespaces()
		if err == nil {
			return g, nil
		}
		if mode == Namespaces {
			return nil, fmt.Errorf("--mode=netns: %w", err)
		}
		note("no network namespaces (" + err.Error() + "): all pods share the loopback range")
	}
	return newLoopback()
}

// CanUseNamespaces says why mode netns is not possible here, or nil.
func CanUseNamespaces() error {
	g, err := newNamespaces()
	if err == nil {
		g.close()
	}
	return err
}
