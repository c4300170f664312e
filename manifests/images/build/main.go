// Command build writes the images pilotfish and pilotfish-proxy as docker
// archives. It consumes binaries; `make images` runs it.
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
		envoy     = flag.String("envoy", "", "Envoy's binary")
		hub       = flag.String("hub", "docker.io/pilotfish", "what the images' names begin with")
		tag       = flag.String("tag", "dev", "their tag")
		out       = flag.String("out", "bin/images", "folder of the archives")
	)
	flag.Parse()
	if err := build(*pilotfish, *agent, *envoy, *hub, *tag, *out); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func build(pilotfish, agent, envoy, hub, tag, out string) error {
	proxy, err := images.Proxy(envoy, agent)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, image := range map[string]images.Image{"pilotfish": images.Pilotfish(pilotfish), "pilotfish-proxy": proxy} {
		archive, ref := filepath.Join(out, name+".tar"), hub+"/"+name+":"+tag
		if err := image.Write(archive, ref); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := fmt.Fprintf(os.Stdout, "%s  %s\n", archive, ref); err != nil {
			return err
		}
	}
	return nil
}
