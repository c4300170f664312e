package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

func newAsk() *cobra.Command {
	var (
		c       configFlags
		out     outputFlag
		q       simulate.Query
		headers []string
		shows   shown
		explain bool
	)
	cmd := &cobra.Command{
		Use:   "ask --from CLIENT URL",
		Short: "Say what happens to a request",
		Long: `Ask follows a request on its whole way, without running anything: the client's
sidecar or a gateway, the route, the endpoints that can be picked, the server's
sidecar. Each decision is told with the object, file and line that made it.

CLIENT is a workload (web.shop, shop/web, or web where that is clear), a gateway
that clients outside come to (gateway/NAMESPACE/NAME), or plain/NAMESPACE for a
client without a sidecar. URL is http://, https://, tcp:// or tls://.

` + configHelp,
		Example: `  pilotfish ask --from web.shop http://reviews/api?x=1 -H 'x-user: qa'
  pilotfish ask --from gateway/istio-system/ingress https://shop.example.com/ --explain
  pilotfish ask --from web.shop tcp://db:5432 --config overlays/prod
  pilotfish ask --from web.shop http://reviews/ --jwt claims.json -o json
  pilotfish ask --from gateway/shop/partners https://api.example.com/ --client-cert partner.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			q.URL = args[0]
			var err error
			if q.Header, err = parseHeaders(headers); err != nil {
				return err
			}
			if err := shows.addTo(&q); err != nil {
				return err
			}
			m, err := c.load(cmd)
			if err != nil {
				return err
			}
			broken := c.tellProblems(cmd.ErrOrStderr(), m)
			w := simulate.NewWorld(m)
			a, err := w.Ask(&q)
			if err != nil {
				return couldNotRun{err}
			}
			a.Near = w.NearestService(&q, a)
			if !explain {
				a.Brief()
			}
			if err = tellAnswer(cmd.OutOrStdout(), out.value, a, explain); err == nil && broken {
				err = couldNotRun{errPartly}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.From, "from", "", "who asks: a workload, gateway/NAMESPACE/NAME, or plain/NAMESPACE")
	f.StringVarP(&q.Method, "request", "X", "", "method (default GET)")
	f.StringArrayVarP(&headers, "header", "H", nil, `header, as "name: value"; may be repeated`)
	shows.add(f)
	f.StringVar(&q.SNI, "sni", "", "server name of a TLS connection (default the URL's host)")
	f.BoolVar(&q.HTTP2, "http2", false, "send HTTP/2")
	f.BoolVar(&explain, "explain", false, "also say why what came before did not match")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.RegisterFlagCompletionFunc("from", c.askers)
	c.add(cmd)
	out.add(cmd, "text", "json", "yaml", "html")
	return cmd
}

// tellAnswer writes an answer in one of the formats.
func tellAnswer(to io.Writer, format string, a *simulate.Answer, explain bool) error {
	switch format {
	case "text":
		return writeAnswer(to, a, explain)
	case "html":
		return (&report.Page{Title: "ask", Answer: report.AnswerOf(a, explain)}).Write(to)
	}
	return writeData(to, format, a)
}

// askers are who can ask, for the completion of --from.
func (f *configFlags) askers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	m, err := f.load(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for wl := range m.Workloads.All() {
		out = append(out, wl.WorkloadName()+"."+wl.Namespace)
	}
	for g := range m.Gateways.All() {
		out = append(out, "gateway/"+g.Namespace+"/"+g.Name)
	}
	slices.Sort(out)
	return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
}

func parseHeaders(list []string) (simulate.Header, error) {
	var out simulate.Header
	for _, h := range list {
		name, value, ok := strings.Cut(h, ":")
		name = strings.TrimSpace(name)
		if !ok && name != "" {
			return nil, usagef("--header %q: want \"name: value\"", h)
		}
		if name == "" {
			return nil, usagef("--header %q: want \"name: value\"", h)
		}
		out = append(out, simulate.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	return out, nil
}

// shown is what a client shows of itself.
type shown struct{ jwt, cert, source string }

func (s *shown) add(f *pflag.FlagSet) {
	f.StringVar(&s.jwt, "jwt", "", "file with the claims of the request's token, as JSON or YAML; it is in Authorization, or where {jwt} stands for it")
	f.StringVar(&s.cert, "client-cert", "", "file with the certificate that the client shows: a real one (PEM), or YAML with subjectAltNames, subject, untrusted, expired, revoked")
	f.StringVar(&s.source, "source", "", "IP address of a client outside (default 203.0.113.1)")
}

func (s *shown) addTo(q *simulate.Query) (err error) {
	if s.jwt != "" {
		if q.Claims, err = readClaims(s.jwt); err != nil {
			return err
		}
	}
	if s.cert != "" {
		if q.Certificate, err = readCertificate(s.cert); err != nil {
			return err
		}
	}
	if s.source != "" {
		if q.Source, err = netip.ParseAddr(s.source); err != nil {
			return usagef("--source %q: want an IP address", s.source)
		}
	}
	return nil
}

// readClaims reads the payload of a token.
func readClaims(file string) (map[string]any, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, couldNotRun{fmt.Errorf("--jwt: %w", err)}
	}
	js, err := yaml.YAMLToJSON(b)
	claims := map[string]any{}
	if err == nil {
		err = json.Unmarshal(js, &claims)
	}
	if err != nil {
		return nil, couldNotRun{fmt.Errorf("--jwt %s: want an object of claims: %w", file, err)}
	}
	return claims, nil
}

// readCertificate reads a client's certificate: a real one, or what is in it.
func readCertificate(file string) (*simulate.Certificate, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, couldNotRun{fmt.Errorf("--client-cert: %w", err)}
	}
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		c, err := simulate.ParseCertificate(b)
		if err != nil {
			return nil, couldNotRun{fmt.Errorf("--client-cert %s: %w", file, err)}
		}
		return c, nil
	}
	c := &simulate.Certificate{}
	if err := yaml.UnmarshalStrict(b, c); err != nil {
		return nil, couldNotRun{fmt.Errorf("--client-cert %s: want a PEM certificate, or subjectAltNames, subject, untrusted, expired and revoked as YAML: %w", file, err)}
	}
	return c, nil
}
