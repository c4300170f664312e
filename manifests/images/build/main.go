// Command build writes the images pilotfish and pilotfish-proxy, and the
// application of examples/canary in two versions, as docker archives. It
// consumes binaries; `make images` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

func main() {
	var (
		pilotfish = flag.String("pilotfish", "bin/pilotfish", "the control plane's binary")
		agent     = flag.String("agent", "bin/pilotfish-agent", "the agent's binary")
		app       = flag.String("app", "bin/example-app", "the binary of the examples' application")
		envoy     = flag.String("envoy", "", "Envoy's binary")
		hub       = flag.String("hub", "docker.io/pilotfish", "what the images' names begin with")
		tag       = flag.String("tag", "dev", "their tag")
		out       = flag.String("out", "bin/images", "folder of the archives")
	)
	flag.Parse()
	if err := build(*pilotfish, *agent, *app, *envoy, *hub, *tag, *out); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func build(pilotfish, agent, app, envoy, hub, tag, out string) error {
	proxy, err := images.Proxy(envoy, agent)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(out, images.Unfinished))
	if err != nil {
		return err
	}
	for _, file := range left { // of a build that was killed
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	for _, one := range []struct {
		archive, ref string
		image        images.Image
	}{
		{"pilotfish", hub + "/pilotfish:" + tag, images.Pilotfish(pilotfish)},
		{"pilotfish-proxy", hub + "/pilotfish-proxy:" + tag, proxy},
		{"myapp-v1", "docker.io/example/myapp:v1", images.Example(app, "v1")},
		{"myapp-v2", "docker.io/example/myapp:v2", images.Example(app, "v2")},
	} {
		archive := filepath.Join(out, one.archive+".tar")
		if err := one.image.Write(archive, one.ref); err != nil {
			return fmt.Errorf("%s: %w", one.archive, err)
		}
		if _, err := fmt.Fprintf(os.Stdout, "%s  %s\n", archive, one.ref); err != nil {
			return err
		}
	}
	return nil
}
