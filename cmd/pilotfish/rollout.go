package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/replicas"
	"github.com/pilotfish-mesh/pilotfish/rollout"
)

// exitLeft is the exit code of a rollout that changed something and could
// neither promote nor roll back.
const exitLeft = 3

// exitWith is an error of which everything has been said.
type exitWith int

func (e exitWith) Error() string { return "exit code " + strconv.Itoa(int(e)) }

type rolloutFlags struct {
	cluster       clusterFlags
	plan          rollout.Plan
	mode          string
	errorRate     string
	errorIncrease string
	prometheus    string
	headers       []string
	replicas      []string
	namespace     string // of the control plane
	onInterrupt   string
	dryRun, abort bool
	report        string
	out           outputFlag
}

func newRollout() *cobra.Command {
	f := &rolloutFlags{}
	cmd := &cobra.Command{
		Use:   "rollout vs/NAME --to VERSION --prometheus URL",
		Short: "Move traffic to a new version step by step, and back if it is worse",
		Long: `Rollout raises the weight of a version in the http routes of a VirtualService, step by
step. After each step it waits until every proxy has acknowledged the change, then
watches the metrics of the new version beside the old one's, and goes on; or, at the
first limit that is broken, it puts the weights back as they were.

VERSION is a subset, or the host of a destination without subsets. All rules that share
their requests between it and others change, or the one that --route names; a rule
without it is given it if that is the only one that could be meant.

A limit is broken when so many errors (or slow requests) would come from a version that
keeps it less than once in a hundred times. Until there is proof either way, and while
Prometheus does not answer or knows nothing, a step holds; at its deadline it is rolled
back.

A rollout in progress is noted in annotation pilotfish.io/rollout of the object: the
same command goes on where another run was killed, and --abort undoes it. Objects that
Flagger, Argo, Flux or another controller manages are refused.

Exit codes: 0 promoted, 1 rolled back, 2 could not run and changed nothing, 3 left with
the weights of a step: interrupted with --on-interrupt keep, changed by somebody else
meanwhile, or not to be rolled back.`,
		Example: `  pilotfish rollout vs/myapp-virtualservice --to v2 --steps 30,50,100 --interval 1m \
      --max-error-rate 1% --max-p99 500ms --prometheus http://localhost:9090
  pilotfish rollout vs/myapp -n shop --to v2 --dry-run --prometheus http://localhost:9090
  pilotfish rollout vs/myapp --to v2 --mode blue-green --mirror-first --prometheus URL
  pilotfish rollout vs/myapp --to v2 --mode mirror --steps 10,100 --prometheus URL
  pilotfish rollout vs/myapp --abort`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one object, vs/NAME, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.add(cmd)
	return cmd
}

func (f *rolloutFlags) add(cmd *cobra.Command) {
	f.cluster.add(cmd)
	fl, p := cmd.Flags(), &f.plan
	fl.StringVarP(&p.Namespace, "namespace", "n", "", "namespace of the VirtualService; default: the kubeconfig's")
	fl.StringVar(&p.To, "to", "", "subset, or host, of the new version")
	fl.StringVar(&p.Route, "route", "", "name of the one http rule to change")
	fl.StringVar(&f.mode, "mode", "canary", "canary, blue-green (all at once) or mirror (copies only; the weights stay)")
	fl.IntSliceVar(&p.Steps, "steps", nil, "percentages of the new version, rising; default: 100")
	fl.BoolVar(&p.MirrorFirst, "mirror-first", false, "before the first step, send it copies of all requests for one interval")
	fl.DurationVar(&p.Interval, "interval", time.Minute, "how long each step is watched")
	fl.DurationVar(&p.Deadline, "deadline", 0, "how long a step may take before it is rolled back; default: 5 intervals, at least 1m")
	fl.StringVar(&f.errorRate, "max-error-rate", "1%", `share of requests that may fail (5xx, or a server's gRPC status); "off" for no limit`)
	fl.StringVar(&f.errorIncrease, "max-error-increase", "1%", `by how much that share may be larger than the old version's; "off" for no limit`)
	fl.DurationVar(&p.MaxP99, "max-p99", 0, "what 99 % of the requests may take at the most")
	fl.IntVar(&p.MinRequests, "min-requests", 100, "requests to the new version before a verdict")
	fl.StringVar(&f.prometheus, "prometheus", "", "URL of a Prometheus that scrapes the proxies")
	fl.StringArrayVar(&f.headers, "prometheus-header", nil, `header for Prometheus, such as "Authorization: Bearer TOKEN"; may be repeated`)
	fl.StringVar(&p.ToVersion, "to-version", "", "destination_version in the metrics of the new version; default: label version of its subset")
	fl.StringSliceVar(&p.FromVersions, "from-version", nil, "the same of the old versions")
	fl.StringArrayVar(&f.replicas, "control-plane", nil, "URL of the debug pages of a replica of the control plane; may be repeated; default: those in the cluster, by port-forward")
	fl.StringVar(&f.namespace, "control-plane-namespace", "istio-system", "namespace of the control plane")
	fl.BoolVar(&p.Force, "force", false, "also if a controller manages the object")
	fl.StringVar(&f.onInterrupt, "on-interrupt", "rollback", "what an interrupt does: rollback, or keep the step's weights")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check everything, say what would be done, and change nothing")
	fl.BoolVar(&f.abort, "abort", false, "undo the rollout that another run left in progress")
	fl.StringVar(&f.report, "report", "", "file to write a report in JSON to")
	completes(cmd, "mode", "canary", "blue-green", "mirror")
	completes(cmd, "on-interrupt", "rollback", "keep")
	f.out.add(cmd, "text", "json", "yaml")
}

// planOf completes the Plan from the flags.
func (f *rolloutFlags) planOf(object string) error {
	p := &f.plan
	kind, name, ok := strings.Cut(object, "/")
	if !ok {
		kind, name = "vs", object
	}
	if name == "" {
		return usagef("%q: want vs/NAME", object)
	}
	switch strings.ToLower(kind) {
	case "vs", "virtualservice", "virtualservices", "virtualservice.networking.istio.io":
	default:
		return usagef("%q: want vs/NAME", object)
	}
	p.Name, p.Mode = name, rollout.Mode(f.mode)
	var err error
	if p.MaxErrorRate, err = parseShare(f.errorRate); err != nil {
		return usagef("--max-error-rate %q: %w", f.errorRate, err)
	}
	if p.MaxErrorIncrease, err = parseShare(f.errorIncrease); err != nil {
		return usagef("--max-error-increase %q: %w", f.errorIncrease, err)
	}
	switch f.onInterrupt {
	case "rollback", "keep":
		p.Keep = f.onInterrupt == "keep"
	default:
		return usagef("--on-interrupt %q: want rollback or keep", f.onInterrupt)
	}
	if f.abort {
		return nil
	}
	if err := p.Check(); err != nil {
		return usageError{err}
	}
	return f.checkSurroundings()
}

// checkSurroundings finds before anything is changed what would only show after
// it: nobody to ask, and nowhere to write to.
func (f *rolloutFlags) checkSurroundings() error {
	if f.prometheus == "" {
		return usagef("--prometheus is missing: the URL of a Prometheus that scrapes the proxies")
	}
	if u, err := url.Parse(f.prometheus); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usagef("--prometheus %q: want a URL such as http://prometheus.example.com:9090", f.prometheus)
	}
	for _, h := range f.headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" {
			return usagef(`--prometheus-header: want "NAME: VALUE"`) // not what it is: it may be a token
		}
	}
	if f.report == "" {
		return nil
	}
	if at, err := os.Stat(f.report); err == nil && at.IsDir() {
		return usagef("--report %s: is a folder", f.report)
	}
	if at, err := os.Stat(filepath.Dir(f.report)); err != nil || !at.IsDir() {
		return usagef("--report %s: there is no folder %s", f.report, filepath.Dir(f.report))
	}
	return nil
}

// parseShare reads "1%", "0.01" or "off".
func parseShare(s string) (float64, error) {
	if s == "off" {
		return -1, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, errors.New(`want a percentage such as 1%, or "off"`)
	}
	return v, nil
}

func (f *rolloutFlags) run(cmd *cobra.Command, object string) error {
	if err := f.out.check(); err != nil {
		return err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.cluster.kubeconfig
	kube := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.cluster.context})
	if f.plan.Namespace == "" {
		f.plan.Namespace, _, _ = kube.Namespace() // what is wrong with it the next call says
	}
	if f.plan.Namespace == "" {
		f.plan.Namespace = "default"
	}
	if err := f.planOf(object); err != nil {
		return err
	}
	c, err := kube.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return couldNotRun{errors.New("no cluster: neither --kubeconfig nor KUBECONFIG nor ~/.kube/config says where it is")}
	}
	if err != nil {
		return couldNotRun{err}
	}
	r, err := f.build(c)
	if err != nil {
		return couldNotRun{err}
	}
	defer r.Replicas.Close()
	if f.dryRun && !f.abort {
		preview, err := r.Preview(cmd.Context())
		if err != nil {
			return couldNotRun{err}
		}
		return f.writePreview(cmd.OutOrStdout(), preview)
	}
	return f.carryOut(cmd, r)
}

func (f *rolloutFlags) build(c *rest.Config) (*rollout.Rollout, error) {
	c.WarningHandlerWithContext = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	r := &rollout.Rollout{Plan: f.plan, Client: client, Root: f.namespace, Replicas: replicas.Fixed(f.replicas)}
	if len(f.replicas) == 0 {
		if r.Replicas, err = replicas.NewForwarded(c, f.namespace); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	for _, h := range f.headers {
		key, value, _ := strings.Cut(h, ":")
		header.Add(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	r.Metrics, err = rollout.NewMetrics(f.prometheus, header)
	return r, err
}

func (f *rolloutFlags) carryOut(cmd *cobra.Command, r *rollout.Rollout) error {
	to := cmd.OutOrStdout()
	if f.out.value != "text" {
		to = cmd.ErrOrStderr()
	}
	d := newRolloutDisplay(to)
	r.Progress = d.show
	act := r.Run
	if f.abort {
		act = r.Abort
	}
	report, err := act(cmd.Context())
	d.clear()
	if err != nil {
		return couldNotRun{err}
	}
	if err := f.writeReport(cmd.OutOrStdout(), report); err != nil {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "pilotfish: --report:", err)
	}
	switch report.Result {
	case rollout.RolledBack:
		return exitWith(exitFailure)
	case rollout.Left:
		return exitWith(exitLeft)
	default:
		return nil
	}
}

func (f *rolloutFlags) writeReport(stdout io.Writer, report *rollout.Report) error {
	if f.out.value != "text" {
		if err := writeData(stdout, f.out.value, report); err != nil {
			return err
		}
	}
	if f.report == "" {
		return nil
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.report, append(b, '\n'), 0o644) //nolint:gosec // a report holds nothing secret
}

func (f *rolloutFlags) writePreview(to io.Writer, p *rollout.Preview) error {
	if f.out.value != "text" {
		return writeData(to, f.out.value, p)
	}
	var b strings.Builder
	if len(p.Steps) == 0 {
		fmt.Fprintf(&b, "nothing to do: %s has all of the traffic of %s/%s\n", p.To, p.Namespace, p.Name)
	}
	row := func(what string, rules []rollout.RuleWeights) {
		for _, r := range rules {
			name := ""
			if r.Name != "" {
				name = " (" + r.Name + ")"
			}
			fmt.Fprintf(&b, "%-12s http[%d]%s: %s\n", what, r.Rule, name, r.Weights)
			what = ""
		}
	}
	row("now", p.Before)
	for i, s := range p.Steps {
		what := fmt.Sprintf("step %d", i+1)
		if i+1 == p.Resumes {
			what += " *"
		}
		row(what, s.Rules)
	}
	if len(p.Steps) > 0 {
		fmt.Fprintf(&b, "%s would have to acknowledge each step; each is watched for %v\n", count(p.Proxies, "proxy", "proxies"), f.plan.Interval)
	}
	_, err := io.WriteString(to, b.String())
	return err
}
