package meshtest

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// File is one test file.
type File struct {
	Name string
	// Config are the paths that it tests, relative to the file; empty means
	// what the command was given.
	Config []string
	Cases  []*Case
}

// Paths are those of Config as they are reached from the working directory.
func (f *File) Paths() []string {
	var out []string
	for _, p := range f.Config {
		if !filepath.IsAbs(p) && p != "-" {
			p = filepath.Join(filepath.Dir(f.Name), p)
		}
		out = append(out, p)
	}
	return out
}

// Case is one test, or one row of a table.
type Case struct {
	Name    string
	Line    int
	From    From
	Request Request
	Forall  *Forall
	Expect  Expect

	file string
}

// File is the name of the file that the case is in.
func (c *Case) File() string { return c.file }

// From is who sends a request.
type From struct {
	Workload  string `yaml:"workload"`
	Namespace string `yaml:"namespace"`
	Gateway   string `yaml:"gateway"` // namespace/name
	// Plain: a client without a sidecar.
	Plain bool `yaml:"plain"`
	// Address is that of a client outside, who comes to a gateway.
	Address string `yaml:"address"`

	source netip.Addr
}

// String is the form of simulate.Query.From.
func (f *From) String() string {
	switch {
	case f.Gateway != "":
		return "gateway/" + f.Gateway
	case f.Plain:
		return "plain/" + f.Namespace
	case f.Namespace != "":
		return f.Workload + "." + f.Namespace
	}
	return f.Workload
}

// Request is what is sent.
type Request struct {
	URL     string            `yaml:"url"`
	Method  string            `yaml:"method"`
	Headers map[string]string `yaml:"headers"`
	JWT     map[string]any    `yaml:"jwt"`
	SNI     string            `yaml:"sni"`
	HTTP2   bool              `yaml:"http2"`
	// ClientCertificate is what a client of https:// or tls:// shows.
	ClientCertificate *simulate.Certificate `yaml:"clientCertificate"`
}

// Forall is an invariant: it must hold for every request from some workloads
// to some others.
type Forall struct {
	From From   `yaml:"from"`
	To   Target `yaml:"to"`
}

// Target are the services that an invariant is about.
type Target struct {
	Namespace string `yaml:"namespace"`
	Service   string `yaml:"service"` // a name, or empty for all
}

// Expect is what an answer must be like. Fields that are not set are not
// tested.
type Expect struct {
	Route       *string            `yaml:"route"`
	VirtualHost *string            `yaml:"virtualHost"`
	To          Shares             `yaml:"to"`
	Not         *Expect            `yaml:"not"`
	Authz       *string            `yaml:"authz"` // allow or deny
	MTLS        *string            `yaml:"mtls"`  // strict, on, off
	Retries     *int               `yaml:"retries"`
	Timeout     *string            `yaml:"timeout"`
	Status      *int               `yaml:"status"`
	Redirect    *string            `yaml:"redirect"`
	Path        *string            `yaml:"path"`
	Host        *string            `yaml:"host"`
	Headers     map[string]*string `yaml:"headers"` // null: absent
	Mirror      map[string]float64 `yaml:"mirror"`
	Fault       *FaultExpect       `yaml:"fault"`
	Body        *string            `yaml:"body"`
	// Reachable: some application gets the request; false: none does.
	Reachable *bool `yaml:"reachable"`

	// Of istio-config-validator: some route takes the request, a VirtualService
	// that another one delegates to does, and headers of the answer.
	matched  *bool
	delegate *string
	response map[string]*string
}

// FaultExpect is a fault that is injected.
type FaultExpect struct {
	Delay        *string  `yaml:"delay"`
	DelayPercent *float64 `yaml:"delayPercent"`
	Abort        *int     `yaml:"abort"`
	AbortPercent *float64 `yaml:"abortPercent"`
}

// Shares are percentages by destination: a version, subset, workload, service
// or cluster. One name alone means all requests.
type Shares map[string]float64

// UnmarshalYAML reads {v2: 100}, or v2.
func (s *Shares) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*s = Shares{n.Value: 100}
		return nil
	}
	m := map[string]float64{}
	if err := n.Decode(&m); err != nil {
		return err
	}
	*s = m
	return nil
}

// Parse reads a test file: the form of this package, or that of
// istio-config-validator. Cases that can be read are returned whatever is
// wrong with others.
func Parse(name string, data []byte) (*File, []config.Problem) {
	f := &File{Name: name}
	p := &parser{file: f}
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var root yaml.Node
		err := d.Decode(&root)
		if err != nil {
			if err.Error() != "EOF" {
				p.fault(yamlLine(err), "MalformedYAML", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
			}
			break
		}
		p.document(root.Content[0])
	}
	if len(f.Cases) == 0 && len(p.problems) == 0 {
		p.fault(1, "NoTests", "holds no test: want a list under tests or testCases")
	}
	return f, p.problems
}

func yamlLine(err error) int {
	n := 0
	if _, e := fmt.Sscanf(strings.TrimPrefix(err.Error(), "yaml: "), "line %d:", &n); e != nil {
		return 1
	}
	return n
}

type parser struct {
	file     *File
	problems []config.Problem
}

func (p *parser) fault(line int, code, format string, args ...any) {
	p.problems = append(p.problems, config.Problem{
		Severity: config.Error, Code: code, Message: fmt.Sprintf(format, args...), File: p.file.Name, Line: line,
	})
}

// document reads one YAML document.
func (p *parser) document(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.fault(n.Line, "InvalidTest", "want an object with tests")
		return
	}
	if list := child(n, "testCases"); list != nil {
		p.validatorCases(list)
		return
	}
	p.unknownKeys(n, "", "config", "tests")
	if c := child(n, "config"); c != nil {
		if err := c.Decode(&p.file.Config); err != nil {
			var one string
			if c.Decode(&one) != nil {
				p.fault(c.Line, "InvalidTest", "config: want a list of paths")
			}
			p.file.Config = []string{one}
		}
	}
	list := child(n, "tests")
	if list == nil || list.Kind != yaml.SequenceNode {
		p.fault(n.Line, "InvalidTest", "tests: want a list of tests")
		return
	}
	for _, t := range list.Content {
		p.test(t)
	}
}

// test reads one test. A table makes one case of each row, whose fields go
// before the test's own.
func (p *parser) test(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.fault(n.Line, "InvalidTest", "want a test with name, from, request and expect")
		return
	}
	before := len(p.problems)
	p.unknownKeys(n, "", "name", "from", "request", "forall", "expect", "table")
	base := &Case{Line: n.Line, file: p.file.Name}
	p.fields(n, base)
	rows := child(n, "table")
	if rows == nil {
		if p.complete(base, len(p.problems) > before) {
			p.file.Cases = append(p.file.Cases, base)
		}
		return
	}
	for i, row := range rows.Content {
		before := len(p.problems)
		c := &Case{Line: row.Line, file: p.file.Name}
		p.quietly(func() { p.fields(n, c) }) // its mistakes are reported already
		c.Name = fmt.Sprintf("%s/%d", base.Name, i+1)
		p.unknownKeys(row, "table.", "name", "from", "request", "expect")
		own := &Case{file: p.file.Name}
		p.fields(row, own)
		p.fields(row, c)
		if own.Name != "" {
			c.Name = base.Name + "/" + own.Name
		}
		if p.complete(c, len(p.problems) > before) {
			p.file.Cases = append(p.file.Cases, c)
		}
	}
}

// quietly reports nothing.
func (p *parser) quietly(f func()) {
	n := len(p.problems)
	f()
	p.problems = p.problems[:n]
}

// fields decodes what a node sets of a case.
func (p *parser) fields(n *yaml.Node, c *Case) {
	p.decode(n, "name", &c.Name)
	p.decode(n, "from", &c.From, fromKeys...)
	p.decode(n, "request", &c.Request, "url", "method", "headers", "jwt", "sni", "http2", "clientCertificate")
	p.inner(n, "request", "clientCertificate", "subjectAltNames", "subject", "untrusted", "expired", "revoked")
	if child(n, "forall") != nil {
		c.Forall = &Forall{}
		p.decode(n, "forall", c.Forall, "from", "to")
		p.inner(n, "forall", "from", fromKeys...)
		p.inner(n, "forall", "to", "namespace", "service")
	}
	p.decode(n, "expect", &c.Expect, expectKeys...)
	if e := child(n, "expect"); e != nil {
		p.decode(e, "not", new(Expect), expectKeys...)
		p.decode(e, "fault", new(FaultExpect), "delay", "delayPercent", "abort", "abortPercent")
	}
}

var fromKeys = []string{"workload", "namespace", "gateway", "plain", "address"}

var expectKeys = []string{
	"route", "virtualHost", "to", "not", "authz", "mtls", "retries", "timeout", "status", "redirect", "path", "host",
	"headers", "mirror", "fault", "body", "reachable",
}

func (p *parser) decode(n *yaml.Node, key string, into any, keys ...string) {
	v := child(n, key)
	if v == nil {
		return
	}
	if len(keys) > 0 && v.Kind == yaml.MappingNode {
		p.unknownKeys(v, key+".", keys...)
	}
	if err := v.Decode(into); err != nil {
		msg := strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  ")
		line := v.Line
		if _, rest, ok := strings.Cut(msg, ": "); ok && strings.HasPrefix(msg, "line ") {
			line, msg = yamlLine(fmt.Errorf("%s", msg)), rest
		}
		p.fault(line, "InvalidTest", "%s: %s", key, strings.ReplaceAll(msg, "\n  ", "; "))
	}
}

// inner reports the keys that an object inside of another does not have.
func (p *parser) inner(n *yaml.Node, outer, key string, known ...string) {
	in := child(n, outer)
	if in == nil {
		return
	}
	if v := child(in, key); v != nil {
		p.unknownKeys(v, outer+"."+key+".", known...)
	}
}

// complete tests a case as a whole.
func (p *parser) complete(c *Case, broken bool) bool {
	if broken {
		return false
	}
	fault := func(format string, args ...any) bool {
		p.fault(c.Line, "InvalidTest", format, args...)
		return false
	}
	e := &c.Expect
	if c.From.Address != "" {
		a, err := netip.ParseAddr(c.From.Address)
		if err != nil || c.From.Gateway == "" {
			return fault("test %q: from.address %q: want the IP address of a client outside, who comes to a gateway", c.Name, c.From.Address)
		}
		c.From.source = a
	}
	switch {
	case c.Name == "":
		return fault("name is missing")
	case c.Forall == nil && c.Request.URL == "":
		return fault("test %q: request.url is missing", c.Name)
	case c.Forall == nil && c.From == (From{}):
		return fault("test %q: from is missing", c.Name)
	case c.Forall == nil && c.From.Gateway == "" && c.From.Workload == "" && !c.From.Plain:
		return fault("test %q: from names neither workload nor gateway", c.Name)
	case e.empty():
		return fault("test %q: expect is missing: it would pass whatever happens", c.Name)
	case e.Authz != nil && *e.Authz != "allow" && *e.Authz != "deny":
		return fault("test %q: authz %q: want allow or deny", c.Name, *e.Authz)
	case e.MTLS != nil && *e.MTLS != "strict" && *e.MTLS != "on" && *e.MTLS != "off":
		return fault("test %q: mtls %q: want strict, on or off", c.Name, *e.MTLS)
	}
	if e.Timeout != nil && *e.Timeout != "none" {
		if _, err := time.ParseDuration(*e.Timeout); err != nil {
			return fault("test %q: timeout %q: want a duration such as 3s, or none", c.Name, *e.Timeout)
		}
	}
	if sum := e.To.sum(); len(e.To) > 0 && math.Abs(sum-100) > 0.5 && sum > 100 {
		return fault("test %q: to: the percentages make %g, more than 100", c.Name, sum)
	}
	return true
}

func (s Shares) sum() (n float64) {
	for _, v := range s {
		n += v
	}
	return n
}

func (e *Expect) empty() bool {
	return e.Route == nil && e.VirtualHost == nil && e.To == nil && e.Not == nil && e.Authz == nil && e.MTLS == nil &&
		e.Retries == nil && e.Timeout == nil && e.Status == nil && e.Redirect == nil && e.Path == nil && e.Host == nil &&
		e.Headers == nil && e.Mirror == nil && e.Fault == nil && e.Body == nil && e.Reachable == nil && e.matched == nil &&
		e.delegate == nil && e.response == nil
}

// unknownKeys reports keys that an object does not have.
func (p *parser) unknownKeys(n *yaml.Node, path string, known ...string) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		ok := false
		for _, k := range known {
			ok = ok || k == key
		}
		if ok {
			continue
		}
		msg := fmt.Sprintf("unknown key %q", path+key)
		if near := config.Nearest(key, known); near != "" {
			msg += fmt.Sprintf(": did you mean %q?", near)
		} else {
			sorted := append([]string(nil), known...)
			sort.Strings(sorted)
			msg += ": want one of " + strings.Join(sorted, ", ")
		}
		p.problems = append(p.problems, config.Problem{
			Severity: config.Error, Code: "UnknownKey", Message: msg, File: p.file.Name, Line: n.Content[i].Line, Column: n.Content[i].Column,
		})
	}
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
