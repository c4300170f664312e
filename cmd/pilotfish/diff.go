package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

type diffFlags struct {
	config   configFlags
	out      outputFlag
	markdown bool
	xds      bool
	order    bool
}

func newDiff() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff A..B | A | OLD NEW | --kubeconfig FILE",
		Short: "Say what a change of the configuration changes, for whom",
		Long: `Diff compares two states of a configuration: git revisions A and B, revision A and
the working tree, or two paths. It says which proxies are sent other resources, and
which requests are answered differently, grouped by cause, each with a request that
shows it. What it tries are the requests that either state tells apart: one for each
route and rule. What is not listed is answered the same.

With A..B and A, --config says which paths of the repository are compared. With
--kubeconfig both states are on top of that cluster; without A it is compared with
what it would be once --config is applied.

With --order it says in which order the change can be applied, object by object, so
that no request fails in between: Istio's objects, Services, workloads (and where to
wait until they are ready), Secrets, ConfigMaps and Namespaces, each step with what
would fail if it came earlier. Where no order is safe it says which steps fail.

Exit codes: 0 no request is answered differently, 1 some are, 2 could not run.`,
		Example: `  pilotfish diff main..HEAD
  pilotfish diff main --config overlays/prod --markdown
  pilotfish diff old/ new/ --order
  pilotfish diff HEAD~1..HEAD --xds
  pilotfish diff --kubeconfig ~/.kube/config --config overlays/prod`,
		Args: cobra.RangeArgs(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.markdown, "markdown", false, "for a comment on a pull request; the same as -o markdown")
	fl.BoolVar(&f.xds, "xds", false, "also show how the resources differ")
	fl.BoolVar(&f.order, "order", false, "also give an order of applying the objects without a failed request in between")
	f.config.add(cmd)
	f.out.add(cmd, "text", "json", "yaml", "junit", "sarif", "markdown", "github", "html")
	return cmd
}

// state is one of the two that are compared.
type state struct {
	*inputs.Bare
	world  *simulate.World
	broken bool // parts could not be read
}

func (f *diffFlags) execute(cmd *cobra.Command, args []string) error {
	if f.markdown {
		f.out.value = "markdown"
	}
	if err := f.out.check(); err != nil {
		return err
	}
	if len(args) == 0 && f.config.kubeconfig == "" {
		return usagef("want A..B, A, OLD NEW or --kubeconfig: two states to compare")
	}
	if len(args) == 0 && f.order {
		return usagef("--order needs both states in files: A..B, A, or OLD NEW")
	}
	if err := twoRevisions(args); err != nil {
		return err
	}
	first, second := f.sides(args)
	before, after, err := f.states(cmd, first, second)
	if err != nil {
		return err
	}
	d := meshtest.Diff(before.world, after.world)
	for i := range d.Objects {
		o := &d.Objects[i]
		at := placeOf(o.Object, before, after)
		o.File, o.Line = at.File, at.Line
	}
	r := &diffReport{Difference: d, before: before.world, after: after.world}
	if f.order {
		r.Order = meshtest.SafeOrder(d, before.world, after.world, between(before.Bare, after.Bare))
	}
	if f.xds {
		r.Resources = resourceDiffs(d, before.world, after.world)
	}
	if err := f.write(cmd.OutOrStdout(), r); err != nil {
		return err
	}
	if before.broken || after.broken {
		return couldNotRun{errPartly}
	}
	if len(d.Requests) > 0 {
		return findings{}
	}
	return nil
}

func placeOf(object config.Key, before, after *state) inputs.Place {
	if at, ok := after.Places[object]; ok {
		return at
	}
	return before.Places[object]
}

var errPartly = errors.New("parts of the configuration could not be read: the answer is about the rest")

// side names a state: paths as they are, or at a git revision, and none for
// the cluster alone.
type side struct {
	revision string
	paths    []string
}

// named are the paths of --config, or the folder.
func (f *diffFlags) named() []string {
	if len(f.config.paths) == 0 {
		return []string{"."}
	}
	return f.config.paths
}

// twoRevisions refuses git's other ways to name two revisions.
func twoRevisions(args []string) error {
	a, b, three := strings.Cut(strings.Join(args, " "), "...")
	switch {
	case len(args) == 1 && three:
		return usagef("%q: want two dots, %s..%s, or $(git merge-base %[2]s %[3]s)..%[3]s for what the branch itself changes", args[0], a, cmp.Or(b, "HEAD"))
	case len(args) == 2 && !isPath(args[0]) && !isPath(args[1]):
		return usagef("%q and %q are no paths: want two paths, or revisions as %s..%s", args[0], args[1], args[0], args[1])
	}
	return nil
}

// sides are those that diff's arguments name.
func (f *diffFlags) sides(args []string) (before, after side) {
	before, after = side{paths: f.named()}, side{paths: f.named()}
	a, b, isRange := strings.Cut(strings.Join(args, ""), "..")
	switch {
	case len(args) == 0:
		before.paths = nil
	case len(args) == 2:
		before.paths, after.paths = args[:1], args[1:]
	case isRange:
		before.revision, after.revision = a, b
	default:
		before.revision = args[0]
	}
	return before, after
}

func (f *diffFlags) states(cmd *cobra.Command, first, second side) (before, after *state, err error) {
	var out [2]*state
	memory := file.NewMemory(translate.Check)
	for i, s := range [2]side{first, second} {
		o, err := f.config.options(cmd.InOrStdin(), s.revision, s.paths)
		if err != nil {
			return nil, nil, err
		}
		o.Memory = memory
		b, err := inputs.LoadBare(cmd.Context(), o)
		if err != nil {
			return nil, nil, couldNotRun{err}
		}
		out[i] = &state{Bare: b, broken: f.config.tellProblems(cmd.ErrOrStderr(), b.Mesh)}
		if i == 0 {
			out[i].world = simulate.NewWorld(b.Mesh)
		} else {
			out[i].world = out[0].world.With(b.Mesh)
		}
	}
	return out[0], out[1], nil
}

// diffReport is all that diff says.
type diffReport struct {
	*meshtest.Difference
	Order     *meshtest.Order `json:"order,omitempty"`
	Resources []resourceDiff  `json:"resources,omitempty"`

	before, after *simulate.World
}

type resourceDiff struct {
	Resource  string   `json:"resource"`
	Workloads []string `json:"workloads"`
	Diff      string   `json:"diff"`
}

// resourceDiffs shows each difference once, with the workloads that have it.
func resourceDiffs(d *meshtest.Difference, before, after *simulate.World) []resourceDiff {
	var out []resourceDiff
	at := map[string]int{}
	for _, p := range d.Proxies {
		for _, r := range p.Resources {
			text := meshtest.ResourceDiff(before, after, p.Workload, r)
			if text == "" {
				continue
			}
			i, ok := at[r+text]
			if !ok {
				i = len(out)
				at[r+text] = i
				out = append(out, resourceDiff{Resource: r, Diff: text})
			}
			out[i].Workloads = append(out[i].Workloads, p.Workload)
		}
	}
	return out
}

func (f *diffFlags) write(to io.Writer, r *diffReport) error {
	switch f.out.value {
	case "json", "yaml":
		return writeData(to, f.out.value, r)
	case "html":
		calls := report.CallsOf(r.after)
		calls.Since(report.CallsOf(r.before))
		return (&report.Page{Title: "diff", Diff: &report.Diff{Difference: r.Difference, Order: r.Order}, Calls: calls}).Write(to)
	case "sarif":
		return writeSARIF(to, "diff", f.config.marked(changesOf(r.Difference)))
	case "junit":
		return writeFindingsJUnit(to, "diff", f.config.marked(changesOf(r.Difference)))
	case "github":
		return writeAnnotations(to, f.config.marked(changesOf(r.Difference)))
	}
	t := &diffText{markdown: f.out.value == "markdown"}
	t.write(r)
	_, err := io.WriteString(to, t.b.String())
	return err
}

// changesOf are the requests that are answered differently as findings, at the
// object that is the cause.
func changesOf(d *meshtest.Difference) []meshtest.Finding {
	var out []meshtest.Finding
	for _, q := range d.Requests {
		f := meshtest.Finding{Witness: q.Witness, Problem: config.Problem{
			Severity: config.Warning, Code: "AnsweredDifferently", Message: fmt.Sprintf("%s from %s: before %s, after %s",
				count(q.Count, "request", "requests"), listed(q.Clients), q.Before, q.After),
		}}
		for _, o := range d.Objects {
			if q.Cause == o.Object.String() || strings.HasPrefix(q.Cause, o.Object.String()+" ") {
				f.Object, f.File, f.Line = o.Object, o.File, o.Line
				f.Field = strings.TrimSpace(strings.TrimPrefix(q.Cause, o.Object.String()))
			}
		}
		out = append(out, f)
	}
	return out
}

// diffText writes a report for people.
type diffText struct {
	b        strings.Builder
	markdown bool
}

func (t *diffText) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if t.markdown {
		text = "### " + text + "\n"
		if t.b.Len() > 0 {
			text = "\n" + text
		}
	}
	t.b.WriteString(text + "\n")
}

func (t *diffText) item(format string, args ...any) {
	mark := "  "
	if t.markdown {
		mark = "* "
	}
	t.b.WriteString(mark + fmt.Sprintf(format, args...) + "\n")
}

func (t *diffText) detail(label, text string) {
	if t.markdown {
		fmt.Fprintf(&t.b, "  * %s: `%s`\n", label, text)
		return
	}
	fmt.Fprintf(&t.b, "    %-8s %s\n", label, text)
}

func (t *diffText) write(r *diffReport) {
	if r.Empty() {
		t.title("Nothing changes: every proxy is sent the same.")
		return
	}
	t.title("%s", count(len(r.Objects), "object changes", "objects change"))
	for _, o := range r.Objects {
		place := ""
		if o.File != "" {
			place = fmt.Sprintf(" (%s:%d)", o.File, o.Line)
		}
		t.item("%s %s%s", o.Change, o.Object, place)
	}
	t.requests(r)
	t.title("%s other resources, %d the same", count(len(r.Proxies), "workload's proxies are sent", "workloads' proxies are sent"), r.Same)
	for i, p := range r.Proxies {
		if i == maxListed {
			t.item("and %d more (-o json lists them)", len(r.Proxies)-i)
			break
		}
		if len(p.Resources) == 0 {
			t.item("%s %s", p.Workload, p.Change)
			continue
		}
		t.item("%s %s: %s", p.Workload, p.Change, listed(p.Resources))
	}
	if r.Others > 0 {
		t.item("nothing differs about %s: requests to them are answered the same", count(r.Others, "other service's host", "other services' hosts"))
	}
	for _, u := range r.Unknown {
		t.item("not certain: %s", u)
	}
	t.order(r.Order)
	for _, x := range r.Resources {
		t.title("%s of %s", x.Resource, listed(x.Workloads))
		if t.markdown {
			t.b.WriteString("```diff\n" + x.Diff + "```\n")
		} else {
			t.b.WriteString(x.Diff)
		}
	}
}

func (t *diffText) requests(r *diffReport) {
	if len(r.Requests) == 0 {
		t.title("No request is answered differently (%d tried)", r.Tried)
		return
	}
	t.title("Requests are answered differently (%d tried)", r.Tried)
	for _, q := range r.Requests {
		cause := q.Cause
		if cause == "" {
			cause = "the proxies' own settings"
		}
		if q.Change != "" {
			cause += " (by the change of " + q.Change + ")"
		}
		t.item("%s: %s, from %s", cause, count(q.Count, "request", "requests"), listed(q.Clients))
		t.detail("before", q.Before)
		t.detail("after", q.After)
		t.detail("example", "pilotfish ask "+q.Witness)
	}
}

const maxListed = 8

func listed(list []string) string {
	if len(list) > maxListed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:maxListed], ", "), len(list)-maxListed)
	}
	return strings.Join(list, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
