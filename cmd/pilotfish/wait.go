package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/replicas"
	"github.com/pilotfish-mesh/pilotfish/replicas/held"
)

// waitFlags are those of wait.
type waitFlags struct {
	out        outputFlag
	urls       []string
	namespace  string
	kubeconfig string
	context    string
	systemNS   string // the control plane's namespace
	tokenFile  string
	acked      string
	timeout    time.Duration
	generation int64
}

func newWait() *cobra.Command {
	var f waitFlags
	cmd := &cobra.Command{
		Use:   "wait KIND/NAME",
		Short: "Wait until proxies have an object's current version",
		Long: `Wait asks a running control plane until every proxy that is connected to it, or
the share --acked of them, has acknowledged what was made of an object's current
version. After --timeout it says who has not, and why.

KIND is a kind of Istio's API or its short form: vs, dr, gw, se, sidecar, we, wg, ef,
pa, ra, ap, telemetry, wasm. With --kubeconfig the replicas in that cluster are
asked, by a port-forward to each; else those that --url names, once for each. From
another machine than theirs they answer the bearer of a token (--token-file) of a
service account of the control plane's namespace, for audience istio-ca. The current version is what the control plane has read
last, or, with --kubeconfig or --generation, not before the one that the API server
has, or that generation.

Exit codes: 0 they have, 1 some have not, 2 the control plane could not be asked.`,
		Example: `  pilotfish wait vs/reviews -n shop --acked 100% --timeout 30s
  pilotfish wait vs/reviews -n shop --kubeconfig ~/.kube/config
  pilotfish wait ap/payments -n pci --url http://127.0.0.1:15014 --url http://127.0.0.1:15114`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args[0]) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (kinds []string, _ cobra.ShellCompDirective) {
			for _, k := range waitKinds {
				if len(args) == 0 {
					kinds = append(kinds, strings.ToLower(k.kind)+"/")
				}
			}
			return kinds, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.urls, "url", []string{"http://127.0.0.1:15014"}, "where a control plane serves its debug pages; once for each replica; default with --kubeconfig: those in the cluster, by port-forward")
	fl.StringVar(&f.tokenFile, "token-file", "", "file with a token to show to the control plane")
	fl.StringVar(&f.systemNS, "control-plane-namespace", "istio-system", "namespace of the control plane")
	fl.StringVarP(&f.namespace, "namespace", "n", "default", "the object's namespace")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "wait for the generation that this cluster's API server has")
	fl.StringVar(&f.context, "context", "", "context of the kubeconfig")
	fl.Int64Var(&f.generation, "generation", 0, "wait for this generation of the object, or a later one")
	fl.StringVar(&f.acked, "acked", "100%", "share of the proxies that must have it")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to wait")
	f.out.add(cmd, "text", "json", "yaml")
	return cmd
}

// waitKind is a kind that can be waited for.
type waitKind struct {
	kind, group, version, plural string
	short                        []string
}

const (
	networkingGroup = "networking.istio.io"
	securityGroup   = "security.istio.io"
)

var waitKinds = []waitKind{
	{"VirtualService", networkingGroup, "v1", "virtualservices", []string{"vs"}},
	{"DestinationRule", networkingGroup, "v1", "destinationrules", []string{"dr"}},
	{"Gateway", networkingGroup, "v1", "gateways", []string{"gw"}},
	{"ServiceEntry", networkingGroup, "v1", "serviceentries", []string{"se"}},
	{"Sidecar", networkingGroup, "v1", "sidecars", nil},
	{"WorkloadEntry", networkingGroup, "v1", "workloadentries", []string{"we"}},
	{"WorkloadGroup", networkingGroup, "v1", "workloadgroups", []string{"wg"}},
	{"EnvoyFilter", networkingGroup, "v1alpha3", "envoyfilters", []string{"ef"}},
	{"ProxyConfig", networkingGroup, "v1beta1", "proxyconfigs", []string{"pc"}},
	{"PeerAuthentication", securityGroup, "v1", "peerauthentications", []string{"pa"}},
	{"RequestAuthentication", securityGroup, "v1", "requestauthentications", []string{"ra"}},
	{"AuthorizationPolicy", securityGroup, "v1", "authorizationpolicies", []string{"ap"}},
	{"Telemetry", "telemetry.istio.io", "v1", "telemetries", nil},
	{"WasmPlugin", "extensions.istio.io", "v1alpha1", "wasmplugins", []string{"wasm"}},
}

// kindNamed finds a kind by its name, plural or short form.
func kindNamed(name string) (waitKind, error) {
	var known []string
	for _, k := range waitKinds {
		names := append([]string{strings.ToLower(k.kind), k.plural}, k.short...)
		for _, n := range names {
			if strings.EqualFold(n, name) {
				return k, nil
			}
		}
		known = append(known, names...)
	}
	if near := config.Nearest(name, known); near != "" {
		return waitKind{}, usagef("kind %q: did you mean %q?", name, near)
	}
	return waitKind{}, usagef("kind %q is none of Istio's API: want vs, dr, gw, se and the like", name)
}

// awaited is what is waited for.
type awaited struct {
	key   config.Key
	share float64 // of the proxies, 0 to 1
	least int64   // generation
}

func (f *waitFlags) execute(cmd *cobra.Command, object string) error {
	if err := f.out.check(); err != nil {
		return err
	}
	kindName, name, ok := strings.Cut(object, "/")
	if !ok || name == "" {
		return usagef("%q: want KIND/NAME, such as vs/reviews", object)
	}
	kind, err := kindNamed(kindName)
	if err != nil {
		return err
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(f.acked, "%"), 64)
	if err != nil || percent <= 0 || percent > 100 {
		return usagef("--acked %q: want more than 0%% and at most 100%%", f.acked)
	}
	want := awaited{config.Key{Group: kind.group, Kind: kind.kind, Namespace: f.namespace, Name: name}, percent / 100, f.generation}
	if f.kubeconfig != "" {
		at, err := generationAt(cmd.Context(), f.kubeconfig, f.context, kind, want.key)
		if err != nil {
			return couldNotRun{fmt.Errorf("--kubeconfig: %w", err)}
		}
		want.least = max(want.least, at)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	plane, err := f.plane(cmd.Flags().Changed("url"))
	if err != nil {
		return couldNotRun{err}
	}
	defer plane.Set.Close()
	w := &waiting{want: want, plane: plane, seen: map[string]bool{}}
	if err := w.poll(ctx); err != nil {
		return couldNotRun{err}
	}
	if err := w.write(cmd.OutOrStdout(), f.out.value); err != nil {
		return err
	}
	if !w.now.Done {
		return findings{}
	}
	return nil
}

// plane is how to ask the control plane; given says that there are URLs for it.
func (f *waitFlags) plane(given bool) (*replicas.Client, error) {
	c := &replicas.Client{Set: replicas.Fixed(f.urls)}
	if f.tokenFile != "" {
		b, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.Token = strings.TrimSpace(string(b))
	}
	if f.kubeconfig == "" || given {
		return c, nil
	}
	cluster, err := clusterAt(f.kubeconfig, f.context)
	if err == nil {
		c.Set, err = replicas.NewForwarded(cluster, f.systemNS)
	}
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return c, nil
}

// waitReport is how far it is.
type waitReport struct {
	Object     string     `json:"object"`
	Done       bool       `json:"done"`
	Generation int64      `json:"generation,omitempty"`
	Proxies    int        `json:"proxies"`
	Acked      int        `json:"acked"`
	Behind     []notThere `json:"behind,omitempty"`
	Why        string     `json:"why,omitempty"` // no proxy can have it
	Problems   []string   `json:"problems,omitempty"`
}

// notThere is a proxy that has not the version.
type notThere struct {
	Proxy string `json:"proxy"`
	Has   int64  `json:"generation,omitempty"`
	Why   string `json:"why"`
}

// waiting asks again and again.
type waiting struct {
	want  awaited
	plane *replicas.Client
	seen  map[string]bool // the proxies that were connected at some time
	now   waitReport
}

// pollEvery is how often the control plane is asked.
const pollEvery = 200 * time.Millisecond

// poll asks until the proxies have the object or ctx ends. The error is about
// a control plane that never answered.
func (w *waiting) poll(ctx context.Context) error {
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	answered := false
	var last error // that is not about the time
	for {
		pages, err := w.ask(ctx)
		switch {
		case err == nil:
			answered = true
			if w.now = w.look(pages); w.now.Done {
				return nil
			}
		case last == nil || ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			if !answered {
				return last
			}
			return nil
		case <-again.C:
		}
	}
}

func (w *waiting) ask(ctx context.Context) ([]held.Page, error) {
	k := w.want.key
	return w.plane.Held(ctx, k.Kind, k.Namespace, k.Name)
}

// look judges what all replicas say.
func (w *waiting) look(pages []held.Page) waitReport {
	r := waitReport{Object: w.want.key.String()}
	there := map[string]bool{}
	told := map[string]bool{}
	for _, page := range pages {
		r.Generation = page.Generation
		r.Why = orElse(r.Why, w.unready(&page))
		for _, p := range page.Problems {
			if text := p.String(); !told[text] {
				told[text] = true
				r.Problems = append(r.Problems, text)
			}
		}
		for _, p := range page.Proxies {
			there[p.Proxy], w.seen[p.Proxy] = true, true
			r.Proxies++
			if p.Newest {
				r.Acked++
			} else {
				r.Behind = append(r.Behind, notThere{nameOfNode(p.Proxy), p.Generation, p.Why})
			}
		}
	}
	for _, id := range sorted(w.seen) {
		if !there[id] {
			// Not counted: it is sent the newest version when it comes back.
			r.Behind = append(r.Behind, notThere{Proxy: nameOfNode(id), Why: "it is disconnected"})
		}
	}
	if r.Proxies == 0 {
		r.Why = orElse(r.Why, "no proxy is connected")
	}
	r.Done = r.Why == "" && float64(r.Acked) >= w.want.share*float64(r.Proxies)
	return r
}

// unready is why no proxy can have the version yet, or "".
func (w *waiting) unready(page *held.Page) string {
	switch {
	case page.Read == "":
		return "the control plane has not read it"
	case page.Effective == "":
		return "nothing of it is in effect"
	case page.Read != page.Effective:
		return "the newest version is not in effect"
	case page.Generation < w.want.least:
		return fmt.Sprintf("the control plane has generation %d, not %d yet", page.Generation, w.want.least)
	}
	return ""
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// nameOfNode is pod.namespace of a node id, kind~address~pod.namespace~domain.
func nameOfNode(id string) string {
	if parts := strings.Split(id, "~"); len(parts) == 4 {
		return parts[2]
	}
	return id
}

func (w *waiting) write(to io.Writer, format string) error {
	if format != "text" {
		return writeData(to, format, w.now)
	}
	r := &w.now
	var b strings.Builder
	version := ""
	if r.Generation > 0 {
		version = fmt.Sprintf(" generation %d", r.Generation)
	}
	fmt.Fprintf(&b, "%s%s: %d of %s", r.Object, version, r.Acked, count(r.Proxies, "proxy has it", "proxies have it"))
	if r.Why != "" {
		b.WriteString("; " + r.Why)
	}
	b.WriteString("\n")
	for _, p := range r.Behind {
		has := ""
		if p.Has > 0 {
			has = fmt.Sprintf(" has generation %d", p.Has)
		}
		fmt.Fprintf(&b, "  %s%s: %s\n", p.Proxy, has, p.Why)
	}
	if !r.Done {
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}
