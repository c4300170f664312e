package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// iptablesFlags are the init step's, by the names of Istio's.
type iptablesFlags struct {
	outboundPort, inboundPort        uint16
	mode                             string
	includeInbound, excludeInbound   string
	includeOutbound, excludeOutbound string
	includeRanges, excludeRanges     string
	cleanup                          bool
}

func newIptables() *cobra.Command {
	var o iptablesFlags
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "istio-iptables",
		Short: "Redirect the pod's connections into its Envoy",
		Long: `Istio-iptables sets up, in the network namespace that it runs in, the kernel's
rules by which the pod's connections go through its Envoy. It is the init step
of a pod, run once; run again it replaces what it did before. It speaks to the
kernel directly (nftables) and needs CAP_NET_ADMIN.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.cleanup {
				return agent.RemoveRedirect(0)
			}
			r, err := o.redirect()
			if err != nil {
				return err
			}
			return r.Apply(0)
		},
	}
	f := cmd.Flags()
	f.Uint16VarP(&o.outboundPort, "envoy-port", "p", 15001, "where Envoy takes what the application opens")
	f.Uint16VarP(&o.inboundPort, "inbound-capture-port", "z", 15006, "where Envoy takes what the application is sent")
	f.StringVarP(&o.mode, "istio-inbound-interception-mode", "m", "REDIRECT", "REDIRECT or TPROXY")
	f.StringVarP(&o.includeInbound, "istio-inbound-ports", "b", "", "inbound ports to redirect, or '*'")
	f.StringVarP(&o.excludeInbound, "istio-local-exclude-ports", "d", "", "inbound ports not to redirect, where all others are")
	f.StringVarP(&o.includeRanges, "istio-service-cidr", "i", "", "destination ranges to redirect, or '*'")
	f.StringVarP(&o.excludeRanges, "istio-service-exclude-cidr", "x", "", "destination ranges not to redirect")
	f.StringVarP(&o.includeOutbound, "istio-outbound-ports", "q", "", "destination ports to redirect in any case")
	f.StringVarP(&o.excludeOutbound, "istio-local-outbound-ports-exclude", "o", "", "destination ports not to redirect")
	f.BoolVar(&o.cleanup, "cleanup-only", false, "remove what an earlier run did")
	f.StringP("proxy-uid", "u", "1337", "users whose connections are Envoy's own")
	f.StringP("proxy-gid", "g", "1337", "groups whose connections are Envoy's own")
	f.Bool("force-apply", false, "accepted: a later run always replaces an earlier one")
	f.Bool("native-nftables", true, "accepted: nothing else is used")
	logs.add(cmd)
	return cmd
}

func (o *iptablesFlags) redirect() (*agent.Redirect, error) {
	r := &agent.Redirect{OutboundPort: o.outboundPort, InboundPort: o.inboundPort, IPv6: true}
	if o.mode != "REDIRECT" {
		return nil, fmt.Errorf("-m %q: not supported yet", o.mode)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("needs root")
	}
	var err error
	if o.includeInbound != "*" {
		if r.IncludeInbound, err = ports("-b", o.includeInbound); err != nil {
			return nil, err
		}
	}
	if r.ExcludeInbound, err = ports("-d", o.excludeInbound); err != nil {
		return nil, err
	}
	if r.ExcludeOutbound, err = ports("-o", o.excludeOutbound); err != nil {
		return nil, err
	}
	r.ExcludeRanges, err = ranges("-x", o.excludeRanges)
	return r, err
}

// list splits a comma-separated value.
func list(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// ports is never nil: no port is not all ports.
func ports(flag, s string) ([]uint16, error) {
	out := []uint16{}
	for _, v := range list(s) {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s %q: %q is not a port", flag, s, v)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

func ranges(flag, s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, v := range list(s) {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			a, aerr := netip.ParseAddr(v)
			if aerr != nil {
				return nil, fmt.Errorf("%s %q: %w", flag, s, err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}
