package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/pilotfish-mesh/pilotfish/e2e/kubetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "adsbench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s shape
	flag.IntVar(&s.services, "services", 500, "services in the mesh")
	flag.IntVar(&s.pods, "pods", 2, "pods a service")
	flag.IntVar(&s.namespaces, "namespaces", 10, "namespaces they are spread over")
	proxies := flag.Int("proxies", 500, "sidecars that connect")
	rounds := flag.Int("rounds", 10, "changes of each kind")
	only := flag.String("only", "", "make this kind of change only: endpoint, route, \"route of one namespace\" or service")
	protocol := flag.String("protocol", "delta", "delta or sotw")
	timeout := flag.Duration("timeout", time.Minute, "bound on one change's way")
	pilotfish := flag.String("server", "", "shell command of the server under test; $KUBECONFIG, $XDS_ADDRESS and $MONITORING_ADDRESS are set")
	peer := flag.String("peer", os.Getenv("PEER"), "shell command of a second server to measure in the same run")
	churn := flag.Int("churn", 0, "endpoint changes a second after the single changes")
	churnFor := flag.Duration("churn-for", 20*time.Second, "for how long")
	replicas := flag.Int("replicas", 1, "processes of the server, behind a TCP balancer of this tool's own")
	restart := flag.Bool("restart", false, "at the end kill the server under its proxies, start it again, and wait until they have what changed meanwhile")
	var h hosts
	flag.IntVar(&h.n, "hosts", 0, "the proxies are gateways, and have so many hosts; the change is one more")
	flag.StringVar(&h.layout, "host-layout", layoutOne, "how hosts are written: one (Gateway for all), each (a Gateway of its own), tls (the same over HTTPS)")
	scoped := flag.Bool("scoped", false, "give every namespace a Sidecar that sees the namespace only")
	byField := flag.Bool("fields", false, "list what the resources of one proxy are made of, in bytes by protobuf field")
	profiles := flag.String("profiles", "", "folder for CPU profiles of server and fleet while they connect and while changes are made; the server has to serve --pprof at $MONITORING_ADDRESS")
	out := flag.String("out", "", "Markdown file to write the table to")
	bin := flag.String("kube-bin", os.Getenv("KUBE_BIN_DIR"), "folder with kube-apiserver and etcd")
	flag.Parse()
	if *pilotfish == "" || *bin == "" {
		return fmt.Errorf("-server and -kube-bin (or KUBE_BIN_DIR) are needed; `make bench` sets them")
	}

	kube, err := kubetest.Run(*bin)
	if err != nil {
		return err
	}
	defer kube.Close()
	config := kube.Config()
	config.QPS, config.Burst = 2000, 4000
	m := &mesh{shape: s, run: strconv.FormatInt(time.Now().Unix()%200, 10)}
	if m.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if m.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if err := installCRDs(ctx, m.dynamic); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "seeding %d services\n", s.services)
	if err := seed(ctx, m.client, s); err != nil {
		return err
	}
	if *scoped {
		if err := scope(ctx, m.dynamic, s); err != nil {
			return err
		}
	}
	h.mesh = m
	if err := h.seed(ctx); err != nil {
		return err
	}
	t := &table{shape: s, proxies: *proxies, replicas: *replicas, hosts: h, protocol: *protocol, rounds: *rounds}
	r := &runner{mesh: m, proxies: *proxies, rounds: *rounds, delta: *protocol == "delta", timeout: *timeout, report: t.add,
		churn: *churn, churnFor: *churnFor, scoped: *scoped, restart: *restart, hosts: h, only: *only, profiles: profiler{*profiles}}
	if *byField {
		r.fields = os.Stdout
	}
	for _, c := range []struct{ name, command string }{{"pilotfish", *pilotfish}, {"peer", *peer}} {
		if c.command == "" {
			continue
		}
		before, err := readAPIServer(ctx, m.client)
		if err != nil {
			return err
		}
		if err := measure(ctx, r, c.name, c.command, kube.Kubeconfig(), *replicas, before); err != nil {
			return err
		}
	}
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(t.markdown()), 0o644)
}

func measure(ctx context.Context, r *runner, name, command, kubeconfig string, replicas int, before apiServer) error {
	s := &target{name: name}
	defer s.stop()
	for i := range replicas {
		log := filepath.Join(filepath.Dir(kubeconfig), fmt.Sprintf("%s-%d.log", name, i))
		one, err := start(ctx, name, command, kubeconfig, log)
		if err != nil {
			return err
		}
		s.servers = append(s.servers, one)
	}
	s.address = s.servers[0].address
	if replicas > 1 {
		if err := s.balance(ctx); err != nil {
			return err
		}
	}
	if err := r.run(ctx, s); err != nil {
		return err
	}
	after, err := readAPIServer(ctx, r.mesh.client)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "API server with %d of %s: %s\n", replicas, name, after.since(before))
	return nil
}

// table is the report of one run.
type table struct {
	shape           shape
	proxies, rounds int
	replicas        int
	hosts           hosts
	protocol        string
	rows            []row
}

func (t *table) add(r row) {
	t.rows = append(t.rows, r)
	fmt.Fprintln(os.Stdout, strings.ReplaceAll(strings.Trim(line(r), "| "), " | ", "  "))
}

func line(r row) string {
	ms := func(d time.Duration) string {
		if d == 0 {
			return "–"
		}
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %.2f MB | %.0f | %.0f MB | %.3f MB | %d |", r.server, r.work,
		ms(r.p50), ms(r.p99), ms(r.cpu), r.bytes, r.responses, r.memory, r.perProxy, r.missed)
}

func (t *table) markdown() string {
	var b strings.Builder
	clients := fmt.Sprintf("%d sidecars", t.proxies)
	if t.hosts.n > 0 {
		clients = fmt.Sprintf("%d gateways of %d hosts (layout %s)", t.proxies, t.hosts.n, t.hosts.layout)
	}
	fmt.Fprintf(&b, "%d services × %d pods in %d namespaces, %s, %s, %d rounds a change, %d replicas; %s; load average at the end %s.\n\n",
		t.shape.services, t.shape.pods, t.shape.namespaces, clients, t.protocol, t.rounds, t.replicas, machine(), load())
	b.WriteString("| server | work | p50 (connect: all) | p99 | server CPU | resources | responses | memory | above idle, a proxy | missed |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		b.WriteString(line(r) + "\n")
	}
	return b.String()
}

// machine describes where the figures were measured.
func machine() string {
	kernel, _ := exec.Command("uname", "-sr").Output()
	return fmt.Sprintf("%d cores shared by server, load, API server and etcd, %s, %s, %s",
		runtime.NumCPU(), cpuModel(), strings.TrimSpace(string(kernel)), runtime.Version())
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(info)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
