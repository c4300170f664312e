package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// testFlags are those of test.
type testFlags struct {
	config   configFlags
	out      outputFlag
	engine   string
	envoy    string
	run      string
	verbose  bool
	watch    bool
	cover    bool
	annotate bool
	mutate   bool
	under    float64
}

func newTest() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [PATH...]",
		Short: "Test mesh configuration",
		Long: `Test runs the cases of files named *_test.yaml, and of istio-config-validator's
files, below each PATH (default "."). A file says itself which configuration it
tests (config), or tests that of --config, or else the folder that it was found by.

The engine sim answers from the configuration alone, in milliseconds; envoy starts a
real Envoy for each proxy of the mesh and sends real requests; both does both and
fails where they disagree.

Exit codes: 0 all passed, 1 some failed, 2 something could not run.

` + configHelp,
		Example: `  pilotfish test
  pilotfish test tests/ --config overlays/prod -v
  pilotfish test --run 'qa' --watch
  pilotfish test --engine both
  pilotfish test --cover --fail-under 80 -o junit > report.xml
  pilotfish test --annotate
  pilotfish test --mutate`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.engine, "engine", "sim", "sim, envoy or both")
	addEnvoy(fl, &f.envoy, "Envoy's binary, for engine envoy (default $ENVOY)")
	fl.StringVar(&f.run, "run", "", "only cases whose names match this regular expression")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "also name the cases that passed")
	fl.BoolVar(&f.watch, "watch", false, "run again whenever a file changes")
	fl.BoolVar(&f.cover, "cover", false, "say which matches, routes, policies and rules no case reaches")
	fl.BoolVar(&f.annotate, "annotate", false, "print the configuration with the number of cases that reach each line; implies --cover")
	fl.BoolVar(&f.mutate, "mutate", false, "change the configuration a little and say what no case notices")
	fl.Float64Var(&f.under, "fail-under", 0, "fail if the coverage is below this percentage; implies --cover")
	f.config.add(cmd)
	completes(cmd, "engine", "sim", "envoy", "both")
	f.out.add(cmd, "text", "json", "yaml", "junit", "sarif", "markdown", "github", "html")
	return cmd
}

// findings is an error whose text was already told: exit code 1.
type findings struct{}

func (findings) Error() string { return "there are findings" }

func (f *testFlags) execute(cmd *cobra.Command, args []string) error {
	if err := f.out.check(); err != nil {
		return err
	}
	if !slices.Contains([]string{"sim", "envoy", "both"}, f.engine) {
		return usagef("--engine %q: want sim, envoy or both", f.engine)
	}
	if _, err := regexp.Compile(f.run); err != nil {
		return usagef("--run %q: %v", f.run, err)
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	f.cover = f.cover || f.under > 0 || f.annotate
	if !f.watch {
		return f.once(cmd, args)
	}
	return file.Watch(cmd.Context(), append(slices.Clone(args), f.config.paths...), func(dependsOn func(string)) {
		f.config.reads = dependsOn
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "--- %s\n", time.Now().Format(time.TimeOnly))
		if err := f.once(cmd, args); err != nil && !errors.As(err, new(findings)) {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "pilotfish: %v\n", err)
		}
	})
}

// suite are the cases that test one configuration.
type suite struct {
	paths   []string
	cases   []*meshtest.Case
	mesh    *config.Mesh
	world   *simulate.World
	results []*meshtest.Result
}

// testRun is all that one run comes to.
type testRun struct {
	suites   []*suite
	results  []*meshtest.Result
	problems []config.Problem // of test files and configuration
	coverage *meshtest.Coverage
	mutants  *mutants
	took     time.Duration
}

type mutants struct {
	Tried    int                `json:"tried"`
	Same     int                `json:"same"` // are answered as before: nothing could notice them
	Survived []*meshtest.Mutant `json:"survived"`
}

func (f *testFlags) once(cmd *cobra.Command, args []string) error {
	began := time.Now()
	f.config.forget()
	r := &testRun{}
	if err := f.read(cmd, args, r); err != nil {
		return err
	}
	for _, s := range r.suites {
		if err := f.runSuite(cmd.Context(), cmd, s); err != nil {
			return err
		}
		r.results = append(r.results, s.results...)
	}
	if f.cover {
		r.coverage = &meshtest.Coverage{}
		for _, s := range r.suites {
			r.coverage.Items = append(r.coverage.Items, meshtest.Cover(s.mesh, s.results).Items...)
		}
	}
	if f.mutate {
		r.mutants = f.mutants(r)
	}
	r.took = time.Since(began)
	places := columns{texts: f.config.texts}
	for i := range r.problems {
		places.set(&r.problems[i])
	}
	if err := f.write(cmd.OutOrStdout(), r); err != nil {
		return err
	}
	return f.verdict(cmd.ErrOrStderr(), r)
}

// verdict is the exit code, as an error.
func (f *testFlags) verdict(stderr io.Writer, r *testRun) error {
	failed, broken := 0, 0
	for _, res := range r.results {
		switch {
		case res.Err != nil:
			broken++
		case !res.Passed():
			failed++
		}
	}
	for _, p := range r.problems {
		if p.Severity == config.Error {
			broken++
			if f.out.value != "text" {
				_, _ = fmt.Fprintln(stderr, p)
			}
		}
	}
	switch {
	case broken > 0:
		return couldNotRun{fmt.Errorf("%d of the tests and files could not be run", broken)}
	case len(r.results) == 0 && slices.ContainsFunc(r.suites, func(s *suite) bool { return len(s.cases) > 0 }):
		return couldNotRun{fmt.Errorf("no test ran: no case has a name that --run %q matches", f.run)}
	case len(r.results) == 0:
		return couldNotRun{errors.New("no test ran: want files named *_test.yaml")}
	case failed > 0, r.mutants != nil && len(r.mutants.Survived) > 0:
		return findings{}
	case r.coverage != nil && r.coverage.Percent() < f.under:
		_, _ = fmt.Fprintf(stderr, "pilotfish: coverage %.1f %% is below --fail-under %g\n", r.coverage.Percent(), f.under)
		return findings{}
	}
	return nil
}

// read finds test files and loads the configurations that they test.
func (f *testFlags) read(cmd *cobra.Command, args []string, r *testRun) error {
	byPaths := map[string]*suite{}
	for _, arg := range args {
		files, problems, err := meshtest.Files(arg)
		if err != nil {
			return couldNotRun{err}
		}
		r.problems = append(r.problems, problems...)
		for _, name := range files {
			data, err := os.ReadFile(name) //nolint:gosec // the user names it
			if err != nil {
				r.problems = append(r.problems, meshtest.Unreadable(name, err))
				continue
			}
			tests, problems := meshtest.Parse(name, data)
			r.problems = append(r.problems, problems...)
			paths := f.configOf(arg, name, tests)
			key := strings.Join(paths, "\n")
			if byPaths[key] == nil {
				byPaths[key] = &suite{paths: paths}
				r.suites = append(r.suites, byPaths[key])
			}
			byPaths[key].cases = append(byPaths[key].cases, tests.Cases...)
		}
	}
	var loaded []*suite
	for _, s := range r.suites {
		switch err := f.loadSuite(cmd, s, r); {
		case err == nil:
			loaded = append(loaded, s)
		case len(r.suites) == 1 || cmd.Context().Err() != nil:
			return err
		default: // the others are run all the same
			r.problems = append(r.problems, inputs.Failed(err))
		}
	}
	r.suites = loaded
	if len(f.config.paths) > 0 && byPaths[strings.Join(f.config.paths, "\n")] == nil {
		f.unused(cmd, r)
	}
	return nil
}

// unused reports what is wrong with a configuration that no test file is about.
func (f *testFlags) unused(cmd *cobra.Command, r *testRun) {
	if err := f.loadSuite(cmd, &suite{paths: f.config.paths}, r); err != nil {
		r.problems = append(r.problems, inputs.Failed(err))
	}
	if len(r.suites) > 0 {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "pilotfish: --config %s: nothing is tested with it, since each test file names a configuration of its own\n",
			strings.Join(f.config.paths, ", "))
	}
}

func (f *testFlags) loadSuite(cmd *cobra.Command, s *suite, r *testRun) error {
	m, err := f.config.loadAt(cmd, "", s.paths)
	if err != nil {
		return err
	}
	for _, p := range m.Problems {
		if isTold(&p) {
			r.problems = append(r.problems, p)
		}
	}
	if slices.ContainsFunc(s.cases, (*meshtest.Case).AnyClient) {
		m = simulate.Completed(m)
	}
	if f.cover && f.config.kubeconfig != "" {
		var written map[string]string
		if m, written, err = meshtest.Written(m); err != nil {
			return couldNotRun{err}
		}
		for name, text := range written {
			f.config.kept[name] = &inputs.Source{Texts: []file.Text{{Name: name, Data: []byte(text)}}}
		}
	}
	s.mesh, s.world = m, simulate.NewWorld(m)
	return nil
}

// configOf are the paths of the configuration that a test file is about.
func (f *testFlags) configOf(arg, name string, tests *meshtest.File) []string {
	switch {
	case len(tests.Config) > 0:
		return tests.Paths()
	case len(f.config.paths) > 0 || f.config.kubeconfig != "":
		return f.config.paths
	case arg == name:
		return []string{filepath.Dir(name)}
	}
	return []string{arg}
}

func (f *testFlags) pattern() *regexp.Regexp {
	if f.run == "" {
		return nil
	}
	return regexp.MustCompile(f.run) // tested by execute
}

func (f *testFlags) runSuite(ctx context.Context, cmd *cobra.Command, s *suite) error {
	sim := meshtest.Simulator{World: s.world}
	if f.engine == "sim" {
		s.results = meshtest.Run(sim, s.world, s.cases, f.pattern())
		return nil
	}
	live, stop, err := f.startLive(ctx, cmd, s)
	if err != nil {
		return couldNotRun{err}
	}
	defer stop()
	real := meshtest.Run(live, s.world, s.cases, f.pattern())
	if f.engine == "envoy" {
		s.results = real
		return nil
	}
	if own, ok := live.(meshtest.Sourced); ok {
		sim.Outside = own.Source()
	}
	s.results = meshtest.Agreed(meshtest.Run(sim, s.world, s.cases, f.pattern()), real)
	return nil
}

// mutants are the changes that no case notices. Cases that fail anyway notice
// nothing.
func (f *testFlags) mutants(r *testRun) *mutants {
	out := &mutants{Survived: []*meshtest.Mutant{}}
	for _, s := range r.suites {
		var good []*meshtest.Case
		for _, res := range s.results {
			if res.Passed() {
				good = append(good, res.Case)
			}
		}
		for _, m := range meshtest.Mutants(s.mesh) {
			out.Tried++
			w := s.world.With(m.Mesh())
			results := meshtest.Run(meshtest.Simulator{World: w}, w, good, nil)
			switch {
			case slices.ContainsFunc(results, func(r *meshtest.Result) bool { return !r.Passed() }):
			case m.Differs(s.world, w):
				out.Survived = append(out.Survived, m)
			default:
				out.Same++
			}
		}
	}
	return out
}
