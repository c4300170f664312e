package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// iptablesFlags are the init step's, by the names of Istio's.
type iptablesFlags struct {
	outboundPort, inboundPort, tunnelPort uint16
	mode, mark, table                     string
	includeInbound, excludeInbound        string
	includeOutbound, excludeOutbound      string
	includeRanges, excludeRanges          string
	users, groups                         string
	onlyGroups, exceptGroups              string
	excludeInterfaces, virtualInterfaces  string
	dns, allDNS, dropInvalid, dualStack   bool
	cleanup, skipApply, validate, dryRun  bool
	resolvConf                            string
}

func newIptables() *cobra.Command {
	var o iptablesFlags
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "istio-iptables",
		Short: "Redirect the pod's connections into its Envoy",
		Long: `Istio-iptables sets up, in the network namespace that it runs in, the kernel's
rules by which the pod's connections go through its Envoy. It is the init step
of a pod; run again it replaces what it did before. It speaks to the kernel
directly (nftables), in one transaction, reads back what the kernel has, and
opens a connection to see that it is redirected. It needs CAP_NET_ADMIN.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger()
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), log)
		},
	}
	o.add(cmd)
	logs.add(cmd)
	return cmd
}

// environment is a flag's default: a variable's value, or otherwise.
func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func truth(name string) bool {
	b, _ := strconv.ParseBool(os.Getenv(name))
	return b
}

func (o *iptablesFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint16VarP(&o.outboundPort, "envoy-port", "p", 15001, "where Envoy takes what the application opens")
	f.Uint16VarP(&o.inboundPort, "inbound-capture-port", "z", 15006, "where Envoy takes what the application is sent")
	f.Uint16VarP(&o.tunnelPort, "inbound-tunnel-port", "e", 15008, "where Envoy ends tunnels")
	f.StringVarP(&o.mode, "istio-inbound-interception-mode", "m", environment("INBOUND_INTERCEPTION_MODE", "REDIRECT"), "REDIRECT, or TPROXY to keep the client's address")
	f.StringVarP(&o.mark, "istio-inbound-tproxy-mark", "t", environment("INBOUND_TPROXY_MARK", "1337"), "the mark by which TPROXY works")
	f.StringVarP(&o.table, "istio-inbound-tproxy-route-table", "r", "133", "the routing table by which TPROXY works")
	f.StringVarP(&o.includeInbound, "istio-inbound-ports", "b", "", "inbound ports to redirect, or '*'")
	f.StringVarP(&o.excludeInbound, "istio-local-exclude-ports", "d", "", "inbound ports not to redirect, where all others are")
	f.StringVarP(&o.includeRanges, "istio-service-cidr", "i", "", "destination ranges to redirect, or '*'")
	f.StringVarP(&o.excludeRanges, "istio-service-exclude-cidr", "x", "", "destination ranges not to redirect")
	f.StringVarP(&o.includeOutbound, "istio-outbound-ports", "q", "", "destination ports to redirect in any case")
	f.StringVarP(&o.excludeOutbound, "istio-local-outbound-ports-exclude", "o", "", "destination ports not to redirect")
	f.StringVarP(&o.virtualInterfaces, "kube-virt-interfaces", "k", "", "devices by which virtual machines send what they open")
	f.StringVarP(&o.excludeInterfaces, "istio-exclude-interfaces", "c", "", "devices whose traffic is left alone")
	f.StringVarP(&o.users, "proxy-uid", "u", "1337", "users whose connections are Envoy's own")
	f.StringVarP(&o.groups, "proxy-gid", "g", "1337", "groups whose connections are Envoy's own")
	f.StringVar(&o.onlyGroups, "outbound-owner-groups", environment("ISTIO_OUTBOUND_OWNER_GROUPS", "*"), "groups whose connections are redirected, or '*'")
	f.StringVar(&o.exceptGroups, "outbound-owner-groups-exclude", environment("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", ""), "groups whose connections are not redirected")
	f.BoolVar(&o.dns, "redirect-dns", truth("ISTIO_META_DNS_CAPTURE"), "send DNS questions to the agent, those to the servers of /etc/resolv.conf")
	f.BoolVar(&o.allDNS, "capture-all-dns", false, "send all DNS questions to the agent")
	f.BoolVar(&o.dropInvalid, "drop-invalid", truth("INVALID_DROP"), "drop packets that belong to no connection")
	f.BoolVar(&o.dualStack, "dual-stack", truth("ISTIO_DUAL_STACK"), "accepted: IPv4 and IPv6 are always covered")
	f.BoolVar(&o.cleanup, "cleanup-only", false, "remove what an earlier run did")
	f.BoolVar(&o.skipApply, "skip-rule-apply", false, "change nothing")
	f.BoolVar(&o.validate, "run-validation", false, "fail if the rules are not in place")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "check the flags only")
	for _, name := range []string{"force-apply", "native-nftables", "reconcile"} {
		f.Bool(name, false, "accepted: a run always replaces what an earlier one did, with nftables")
	}
	f.StringVar(&o.resolvConf, "resolv-conf", "/etc/resolv.conf", "names the DNS servers")
}

func (o *iptablesFlags) run(ctx context.Context, log *zap.Logger) error {
	r, err := o.redirect()
	if err != nil || o.dryRun {
		return err
	}
	if o.cleanup {
		return agent.RemoveRedirect(0)
	}
	if !o.skipApply {
		if err := r.Apply(0); err != nil {
			return err
		}
		log.Info("the pod's connections are redirected", zap.Uint16("outbound", r.OutboundPort), zap.Uint16("inbound", r.InboundPort),
			zap.String("mode", o.mode), zap.Bool("dns", r.DNS))
	} else if o.validate {
		if err := r.Verify(0); err != nil {
			return err
		}
	}
	err = r.Probe(ctx)
	if errors.Is(err, agent.ErrNotProbed) && !o.validate {
		log.Info(err.Error())
		return nil
	}
	return err
}

func (o *iptablesFlags) redirect() (*agent.Redirect, error) {
	r := &agent.Redirect{
		OutboundPort: o.outboundPort, InboundPort: o.inboundPort, TunnelPort: o.tunnelPort, IPv6: hasIPv6(),
		ExcludeInterfaces: list(o.excludeInterfaces), VirtualInterfaces: list(o.virtualInterfaces),
		DNS: o.dns || o.allDNS, DropInvalid: o.dropInvalid,
	}
	if err := o.interception(r); err != nil {
		return nil, err
	}
	if err := o.selection(r); err != nil {
		return nil, err
	}
	if r.DNS && !o.allDNS {
		servers, err := nameServers(o.resolvConf)
		if err != nil {
			return nil, err
		}
		r.DNSServers = servers
	}
	return r, nil
}

func (o *iptablesFlags) interception(r *agent.Redirect) error {
	switch o.mode {
	case "REDIRECT":
		return nil
	case "TPROXY":
		mark, err := strconv.ParseUint(o.mark, 0, 32)
		if err != nil || mark == 0 {
			return fmt.Errorf("-t %q: want a mark", o.mark)
		}
		table, err := strconv.ParseUint(o.table, 0, 31)
		if err != nil || table == 0 {
			return fmt.Errorf("-r %q: want the number of a routing table", o.table)
		}
		r.TProxy = &agent.TProxy{Mark: uint32(mark), Table: int(table)} //nolint:gosec // it has 31 bits
		return nil
	}
	return fmt.Errorf("-m %q: want REDIRECT or TPROXY", o.mode)
}

// selection reads what is redirected and what is not.
func (o *iptablesFlags) selection(r *agent.Redirect) (err error) {
	read := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	if o.includeInbound != "*" {
		read(func() (err error) { r.IncludeInbound, err = ports("-b", o.includeInbound); return })
	}
	if o.includeRanges != "*" {
		read(func() (err error) { r.IncludeRanges, err = ranges("-i", o.includeRanges); return })
	}
	if o.onlyGroups != "*" {
		read(func() (err error) { r.OnlyGroups, err = groupIDs("ISTIO_OUTBOUND_OWNER_GROUPS", o.onlyGroups); return })
	}
	read(func() (err error) { r.ExcludeInbound, err = ports("-d", o.excludeInbound); return })
	read(func() (err error) { r.IncludeOutbound, err = ports("-q", o.includeOutbound); return })
	read(func() (err error) { r.ExcludeOutbound, err = ports("-o", o.excludeOutbound); return })
	read(func() (err error) { r.ExcludeRanges, err = ranges("-x", o.excludeRanges); return })
	read(func() (err error) {
		r.ExceptGroups, err = groupIDs("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", o.exceptGroups)
		return
	})
	read(func() (err error) { r.Users, err = ids("-u", o.users); return })
	read(func() (err error) { r.Groups, err = ids("-g", o.groups); return })
	if err == nil && len(r.Users)+len(r.Groups) == 0 {
		err = fmt.Errorf("-u %q -g %q: want a user or a group", o.users, o.groups)
	}
	return err
}
