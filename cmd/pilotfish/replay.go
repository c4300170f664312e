package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

func newReplay() *cobra.Command {
	var (
		f        diffFlags
		old, new string
		from     string
	)
	cmd := &cobra.Command{
		Use:   "replay LOG --old CONFIG [--new CONFIG]",
		Short: "Send an access log through two configurations",
		Long: `Replay asks two states of a configuration about each request of an access log, in
Istio's JSON or default text form ("-" is standard input), and says what is answered
differently. A state is a path, or a git revision of what --config names; with
--kubeconfig both are on top of that cluster.

The client of a request is the workload with its address, or that of --from, or
whoever serves the host.

Exit codes: 0 nothing differs, 1 something does, 2 could not run.`,
		Example: `  pilotfish replay access.jsonl --old main --new .
  pilotfish replay access.log --old old/ --new new/ --from gateway/istio-system/ingress`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.out.check(); err != nil {
				return err
			}
			if args[0] == "-" && slices.Contains(append([]string{old, new}, f.config.paths...), "-") {
				return usagef("standard input is the log: it cannot be the configuration, too")
			}
			log, unreadable, err := readLog(cmd.InOrStdin(), args[0])
			if err != nil {
				return couldNotRun{err}
			}
			before, after, err := f.states(cmd, f.side(old), f.side(new))
			if err != nil {
				return err
			}
			r := meshtest.Replay(before.world, after.world, log, from)
			r.Unreadable = unreadable
			if err := writeReplay(cmd.OutOrStdout(), f.out.value, r); err != nil {
				return err
			}
			if before.broken || after.broken {
				return couldNotRun{errPartly}
			}
			if r.Different > 0 {
				return findings{}
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&old, "old", "", "path or git revision before")
	fl.StringVar(&new, "new", "", "path or git revision after (default the working tree)")
	fl.StringVar(&from, "from", "", "who sent what no workload's address tells")
	_ = cmd.MarkFlagRequired("old")
	f.config.add(cmd)
	f.out.add(cmd, "text", "json", "yaml")
	return cmd
}

// isPath tells what --config takes from revisions.
func isPath(s string) bool {
	if s == "-" || strings.Contains(s, ":") {
		return true
	}
	_, err := os.Stat(s)
	return err == nil
}

// readLog reads the requests of an access log.
func readLog(stdin io.Reader, name string) (log []meshtest.Logged, unreadable int, err error) {
	from := stdin
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			return nil, 0, err
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if l, ok := meshtest.ParseLog(lines.Text()); ok {
			log = append(log, l)
		} else if lines.Text() != "" {
			unreadable++
		}
	}
	return log, unreadable, lines.Err()
}

func writeReplay(to io.Writer, format string, r *meshtest.Replayed) error {
	if format != "text" {
		return writeData(to, format, r)
	}
	t := &diffText{}
	share := 0.0
	if r.Requests > 0 {
		share = 100 * float64(r.Different) / float64(r.Requests)
	}
	t.title("%s: %s answered differently, %d fail now that worked", count(r.Requests, "request", "requests"), report.Percent(share), r.Failing)
	for _, g := range r.Groups {
		t.item("%s: %s", g.Cause, count(g.Count, "request", "requests"))
		t.detail("before", g.Before)
		t.detail("after", g.After)
		t.detail("example", "pilotfish ask "+g.Witness)
	}
	for _, part := range []struct {
		n    int
		what string
	}{{r.Unanswered, "of clients and hosts that are not in the configuration"}, {r.Unreadable, "lines are no requests of a client's side"}} {
		if part.n > 0 {
			t.item("left out: %d %s", part.n, part.what)
		}
	}
	_, err := fmt.Fprint(to, t.b.String())
	return err
}

// side is what --old or --new names: a path, a git revision of --config, or
// without either --config as it is.
func (f *diffFlags) side(name string) side {
	switch {
	case name == "":
		return side{paths: f.named()}
	case isPath(name):
		return side{paths: []string{name}}
	}
	return side{revision: name, paths: f.named()}
}
