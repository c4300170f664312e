package meshtest

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
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
	// Config are the paths that it tests, relative to the file, or in a revision,
	// as --config has them; empty means what the command was given.
	Config []string
	Cases  []*Case
}

// Paths are those of Config as they are reached from the working directory.
func (f *File) Paths() []string {
	var out []string
	dir := filepath.Dir(f.Name)
	for _, p := range f.Config {
		rev, inside, named := strings.Cut(p, ":")
		switch at := filepath.Join(dir, p); {
		case filepath.IsAbs(p), p == "-":
		case named && rev != "" && !exists(at):
			p = rev + ":" + filepath.Join(dir, inside)
		default:
			p = at
		}
		out = append(out, p)
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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

	// Of istio-config-validator: more that is not so, each by itself, some route takes the request, a VirtualService
	// that another one delegates to does, and headers of the answer.
	alsoNot  []*Expect
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
		p.document(withoutMerges(root.Content[0]))
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
		p.faultAt(n, "", "is %s: want an object with tests", nodeWords(n))
		return
	}
	p.twice(n, "")
	if list := child(n, "testCases"); list != nil {
		p.validatorCases(list)
		return
	}
	p.unknownKeys(n, "", "config", "tests")
	p.config(child(n, "config"))
	list := child(n, "tests")
	if list == nil || list.Kind != yaml.SequenceNode {
		p.notAList(n, list, "tests")
		return
	}
	for _, t := range list.Content {
		p.test(t)
	}
}

// config reads one path or several.
func (p *parser) config(n *yaml.Node) {
	switch {
	case n == nil:
	case n.Kind == yaml.ScalarNode:
		p.file.Config = []string{n.Value}
	default:
		p.decode("", &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Value: "config"}, n}}, "config", &p.file.Config)
	}
}

// notAList reports a field of n that should be a list of tests.
func (p *parser) notAList(n, list *yaml.Node, key string) {
	if list == nil {
		p.faultAt(n, key, "is missing: want a list of tests")
		return
	}
	p.faultAt(list, key, "is %s: want a list of tests", nodeWords(list))
}

// test reads one test. A table makes one case of each row, whose fields go
// before the test's own.
func (p *parser) test(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.faultAt(n, "tests", "has %s in it: want tests with name, from, request and expect", nodeWords(n))
		return
	}
	before := len(p.problems)
	p.twice(n, "")
	p.unknownKeys(n, "", "name", "from", "request", "forall", "expect", "table")
	base := &Case{Line: n.Line, file: p.file.Name}
	p.fields("", n, base)
	rows := child(n, "table")
	if rows == nil {
		if p.complete(base, len(p.problems) > before) {
			p.file.Cases = append(p.file.Cases, base)
		}
		return
	}
	if rows.Kind != yaml.SequenceNode || len(rows.Content) == 0 {
		p.faultAt(rows, "table", "is %s: want a list of rows with from, request and expect", nodeWords(rows))
		return
	}
	for i, row := range rows.Content {
		if row.Kind != yaml.MappingNode {
			p.faultAt(row, "table", "has %s in it: want rows with from, request and expect", nodeWords(row))
			continue
		}
		before := len(p.problems)
		c := &Case{Line: row.Line, file: p.file.Name}
		p.quietly(func() { p.fields("", n, c) }) // its mistakes are reported already
		c.Name = fmt.Sprintf("%s/%d", base.Name, i+1)
		p.twice(row, "table")
		p.unknownKeys(row, "table.", "name", "from", "request", "expect")
		own := &Case{file: p.file.Name}
		p.quietly(func() { p.fields("table.", row, own) }) // the same is read once more
		p.fields("table.", row, c)
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
func (p *parser) fields(path string, n *yaml.Node, c *Case) {
	p.decode(path, n, "name", &c.Name)
	p.decode(path, n, "from", &c.From)
	p.decode(path, n, "request", &c.Request)
	if child(n, "forall") != nil {
		c.Forall = &Forall{}
		p.decode(path, n, "forall", c.Forall)
	}
	p.decode(path, n, "expect", &c.Expect)
}

func (p *parser) decode(path string, n *yaml.Node, key string, into any) {
	v := child(n, key)
	if v == nil {
		return
	}
	before := len(p.problems)
	shape{p, true}.check(path+key, v, reflect.TypeOf(into))
	if len(p.problems) > before {
		return
	}
	if err := v.Decode(into); err != nil {
		p.faultAt(v, path+key, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
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
		e.Headers == nil && e.Mirror == nil && e.Fault == nil && e.Body == nil && e.Reachable == nil && e.alsoNot == nil && e.matched == nil &&
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
