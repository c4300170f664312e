package meshtest

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// tolerance of percentages, in points.
const tolerance = 0.5

// check lists how an answer differs from what is expected; none if it does
// not.
func (e *Expect) check(a *simulate.Answer) []string {
	c := &checker{answer: a, hop: a.Hop}
	if a.Observed > 0 {
		e = e.visible()
	}
	c.routing(e)
	c.behaviour(e)
	c.security(e)
	if e.To != nil {
		c.shares(e.To)
	}
	for _, not := range append([]*Expect{e.Not}, e.alsoNot...) {
		if not != nil && len(not.check(a)) == 0 {
			c.fail("not", "it is so: %s", not.text())
		}
	}
	return c.failed
}

// visible is what of an expectation real requests can show.
func (e *Expect) visible() *Expect {
	out := *e
	out.Route, out.VirtualHost, out.Retries, out.Timeout, out.Mirror = nil, nil, nil, nil, nil
	out.matched, out.delegate, out.response = nil, nil, nil
	if out.Fault != nil {
		out.Fault = &FaultExpect{Abort: e.Fault.Abort, AbortPercent: e.Fault.AbortPercent}
	}
	if out.MTLS != nil && *out.MTLS == "strict" {
		on := "on"
		out.MTLS = &on
	}
	out.Not, out.alsoNot = e.Not.wholly(), nil
	for _, not := range e.alsoNot {
		if not = not.wholly(); not != nil {
			out.alsoNot = append(out.alsoNot, not)
		}
	}
	return &out
}

// wholly is what is visible if that is all; nil otherwise, since what is left
// says something else.
func (e *Expect) wholly() *Expect {
	if e == nil {
		return nil
	}
	out := e.visible()
	if out.empty() || len(out.set()) != len(e.set()) || out.response == nil && e.response != nil {
		return nil
	}
	return out
}

// off reports whether a percentage is another than the wanted one: for real
// requests, by more than five standard deviations.
func (c *checker) off(want, is float64) bool {
	within := tolerance
	if n := c.answer.Observed; n > 0 {
		p := min(max(want/100, 0.01), 0.99)
		within += 500 * math.Sqrt(p*(1-p)/float64(n))
	}
	return math.Abs(want-is) > within
}

type checker struct {
	answer *simulate.Answer
	hop    *simulate.Hop
	failed []string
}

func (c *checker) fail(field, format string, args ...any) {
	c.failed = append(c.failed, field+": "+fmt.Sprintf(format, args...))
}

func (c *checker) text(field string, want *string, is string) {
	if want != nil && *want != is {
		c.fail(field, "want %q, is %q", *want, is)
	}
}

func (c *checker) routing(e *Expect) {
	if e.Route != nil && !sameRoute(*e.Route, c.hop.Route) {
		is := "none"
		if c.hop.Route != nil && c.hop.Route.Name != "" {
			is = routeText(c.hop.Route)
		}
		c.fail("route", "want %s, is %s", *e.Route, is)
	}
	if e.VirtualHost != nil {
		is := ""
		if c.hop.VirtualHost != nil {
			is = c.hop.VirtualHost.Name
		}
		c.text("virtualHost", e.VirtualHost, is)
	}
	if e.matched != nil {
		is := c.hop.Route != nil && c.hop.Route.Name != ""
		if is != *e.matched {
			c.fail("wantMatch", "want %t, is %t", *e.matched, is)
		}
	}
	if e.delegate != nil {
		is := "none"
		if d := c.hop.Route; d != nil && d.Written() != nil {
			is = d.Written().Object.Namespace + "/" + d.Written().Object.Name
		}
		if is != *e.delegate && !strings.HasSuffix(is, "/"+*e.delegate) {
			c.fail("delegate", "want %s, is %s", *e.delegate, is)
		}
	}
	if e.Redirect != nil {
		is := ""
		if c.hop.Reply != nil {
			is = c.hop.Reply.Location
		}
		if is != *e.Redirect && !strings.HasSuffix(is, *e.Redirect) || is == "" {
			c.fail("redirect", "want %q, is %q", *e.Redirect, is)
		}
	}
}

// sameRoute compares "reviews/qa" (object and route), "shop/reviews/qa", or
// the route's name alone.
func sameRoute(want string, is *simulate.Decision) bool {
	if is == nil || is.Name == "" {
		return want == "none"
	}
	for _, form := range routeForms(is) {
		if want == form {
			return true
		}
	}
	return false
}

func routeForms(d *simulate.Decision) []string {
	out := []string{d.Name}
	if s := d.Written(); s != nil {
		o := s.Object
		out = append(out, o.Name+"/"+d.Name, o.Namespace+"/"+o.Name+"/"+d.Name)
	}
	return out
}

func routeText(d *simulate.Decision) string {
	if s := d.Written(); s != nil {
		return s.Object.Name + "/" + d.Name
	}
	return d.Name
}

func (c *checker) behaviour(e *Expect) {
	if e.Retries != nil {
		is := 0
		if c.hop.Retries != nil {
			is = c.hop.Retries.Attempts
		}
		if is != *e.Retries {
			c.fail("retries", "want %d, is %d", *e.Retries, is)
		}
	}
	if e.Timeout != nil && !sameDuration(*e.Timeout, c.hop.Timeout.String()) {
		c.fail("timeout", "want %s, is %s", *e.Timeout, c.hop.Timeout)
	}
	sent := c.sent()
	if e.Path != nil || e.Host != nil || e.Headers != nil {
		if sent == nil {
			c.fail("request", "nothing is sent on: %s", c.outcome())
		} else {
			c.text("path", e.Path, sent.Path)
			c.text("host", e.Host, sent.Authority)
			c.headers(e.Headers, sent)
		}
	}
	c.answered(e.response, sent)
	for name, want := range e.Mirror {
		is := 0.0
		for _, m := range c.hop.Mirrors {
			if named(name, m.Cluster, "", nil) {
				is = m.Percent
			}
		}
		if c.off(want, is) {
			c.fail("mirror."+name, "want %g %%, is %g %%", want, is)
		}
	}
	c.fault(e.Fault)
	if e.Body != nil {
		is := ""
		if c.hop.Reply != nil {
			is = c.hop.Reply.Body
		}
		c.text("body", e.Body, is)
	}
}

// sent is the request as the application gets it, or else as the client's proxy
// sends it on.
func (c *checker) sent() *simulate.Sent {
	for i := range c.answer.Results {
		if r := &c.answer.Results[i]; r.Delivered && r.Sent != nil {
			return r.Sent
		}
	}
	return c.hop.Sent
}

func (c *checker) headers(want map[string]*string, sent *simulate.Sent) {
	for _, name := range sortedKeys(want) {
		is, present := sent.HeaderValue(name)
		switch w := want[name]; {
		case w == nil && present:
			c.fail("headers."+name, "want none, is %q", is)
		case w != nil && is != *w:
			c.fail("headers."+name, "want %q, is %q", *w, is)
		}
	}
}

// answered compares what is done to headers of the answer.
func (c *checker) answered(want map[string]*string, sent *simulate.Sent) {
	for _, name := range sortedKeys(want) {
		done := "nothing"
		if sent != nil {
			for _, change := range sent.Response {
				if strings.EqualFold(change.Name, name) {
					done = strings.TrimSpace(change.Op + " " + change.Value)
				}
			}
		}
		switch w := want[name]; {
		case w == nil && done != "remove":
			c.fail("headers.response."+name, "want remove, is %s", done)
		case w != nil && (done == "remove" || !strings.HasSuffix(done, " "+*w)):
			c.fail("headers.response."+name, "want %q, is %s", *w, done)
		}
	}
}

func (c *checker) fault(want *FaultExpect) {
	if want == nil {
		return
	}
	is := c.hop.Fault
	if is == nil {
		is = &simulate.Fault{}
	}
	if want.Delay != nil && !sameDuration(*want.Delay, is.Delay.String()) {
		c.fail("fault.delay", "want %s, is %s", *want.Delay, is.Delay)
	}
	if want.DelayPercent != nil && c.off(*want.DelayPercent, is.DelayPercent) {
		c.fail("fault.delayPercent", "want %g, is %g", *want.DelayPercent, is.DelayPercent)
	}
	if want.Abort != nil && *want.Abort != is.Abort {
		c.fail("fault.abort", "want %d, is %d", *want.Abort, is.Abort)
	}
	if want.AbortPercent != nil && c.off(*want.AbortPercent, is.AbortPercent) {
		c.fail("fault.abortPercent", "want %g, is %g", *want.AbortPercent, is.AbortPercent)
	}
}

// security tests status, authorization, mTLS and reach over all ends.
func (c *checker) security(e *Expect) {
	delivered, denied := 0.0, 0.0
	for i := range c.answer.Results {
		r := &c.answer.Results[i]
		if r.Delivered {
			delivered += r.Percent
		} else if deniedBy(r) {
			denied += r.Percent
		}
		if e.Status != nil && statusOf(r) != *e.Status {
			c.fail("status", "want %d, is %d for %.4g %% of the requests: %s", *e.Status, statusOf(r), r.Percent, reasonOf(r))
		}
		if e.MTLS != nil && r.Security != "" {
			c.mtls(*e.MTLS, r)
		}
	}
	if e.MTLS != nil && !c.secured() {
		c.fail("mtls", "no server is reached: %s", c.outcome())
	}
	switch {
	case e.Authz != nil && *e.Authz == "allow" && denied > 0:
		c.fail("authz", "want allow, denied for %.4g %% of the requests: %s", denied, c.outcome())
	case e.Authz != nil && *e.Authz == "deny" && delivered > 0:
		c.fail("authz", "want deny, allowed for %.4g %% of the requests: %s", delivered, c.outcome())
	}
	if e.Reachable != nil && *e.Reachable != (delivered > 0) {
		c.fail("reachable", "want %t, is %t: %s", *e.Reachable, delivered > 0, c.outcome())
	}
}

func (c *checker) secured() bool {
	for i := range c.answer.Results {
		if c.answer.Results[i].Security != "" {
			return true
		}
	}
	return false
}

// mtls: "on" is a request that comes over mTLS, "strict" also that the server
// takes nothing else.
func (c *checker) mtls(want string, r *simulate.Result) {
	switch is := r.Security == simulate.MTLS; {
	case want == "off" && is:
		c.fail("mtls", "want off, is on to %s", r.Workload)
	case want != "off" && !is:
		c.fail("mtls", "want %s, is off: %s to %s", want, r.Security, r.Workload)
	case want == "strict" && r.Delivered && !r.Strict:
		c.fail("mtls", "want strict, %s takes plaintext, too", r.Workload)
	}
}

func deniedBy(r *simulate.Result) bool {
	return r.Status == 403 || r.Status == 401 || strings.HasPrefix(r.Reason, "RBAC: ")
}

func statusOf(r *simulate.Result) int {
	if r.Delivered {
		return 200
	}
	return r.Status
}

func reasonOf(r *simulate.Result) string {
	if r.Delivered {
		return "delivered to " + r.Workload
	}
	return r.Reason
}

// outcome is all ends in words.
func (c *checker) outcome() string {
	var parts []string
	for i := range c.answer.Results {
		r := &c.answer.Results[i]
		text := fmt.Sprintf("%.4g %% %s", r.Percent, reasonOf(r))
		if r.Source != nil {
			text += " (" + r.Source.String() + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// shares compares percentages by destination. What is not named must get
// nothing if the named ones make 100.
func (c *checker) shares(want Shares) {
	got := map[string]float64{}
	rest := 0.0
	for i := range c.hop.To {
		d := &c.hop.To[i]
		for _, part := range partsOf(d) {
			name := nameOf(want, d.Cluster, part)
			if name == "" {
				rest += part.percent
				continue
			}
			got[name] += part.percent
		}
	}
	for _, name := range sortedKeys(want) {
		if c.off(want[name], got[name]) {
			c.fail("to."+name, "want %g %%, is %.4g %%: %s", want[name], got[name], c.outcome())
		}
	}
	if rest > tolerance && c.off(0, rest) && want.sum() > 100-tolerance && len(c.failed) == 0 {
		c.fail("to", "%.4g %% go elsewhere: %s", rest, c.outcome())
	}
}

// part is a share of the requests that goes to one workload.
type part struct {
	workload string
	labels   map[string]string
	percent  float64
}

func partsOf(d *simulate.Destination) []part {
	var out []part
	for i := range d.Endpoints {
		ep := &d.Endpoints[i]
		if ep.Percent > 0 {
			out = append(out, part{ep.Workload, ep.Labels, d.Percent * ep.Percent / 100})
		}
	}
	if len(out) == 0 {
		out = append(out, part{percent: d.Percent})
	}
	return out
}

func nameOf(want Shares, cluster string, p part) string {
	for _, name := range sortedKeys(want) {
		if named(name, cluster, p.workload, p.labels) {
			return name
		}
	}
	return ""
}

// named reports whether a name means a destination: its cluster, subset,
// service, workload or version; or host|subset.
func named(name, cluster, workload string, labels map[string]string) bool {
	if name == cluster || workload != "" && (name == workload || strings.HasSuffix(workload, "/"+name)) || name == labels["version"] && name != "" {
		return true
	}
	_, _, subset, host, ok := translate.ParseCluster(cluster)
	if !ok {
		return false
	}
	if h, s, both := strings.Cut(name, "|"); both {
		return (h == host || strings.HasPrefix(host, h+".")) && s == subset
	}
	return name == subset && subset != "" || name == host || strings.HasPrefix(host, name+".")
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func sameDuration(want, is string) bool {
	if want == is {
		return true
	}
	a, err := time.ParseDuration(want)
	b, err2 := time.ParseDuration(is)
	return err == nil && err2 == nil && a == b
}

// set are the names of the fields that are set.
func (e *Expect) set() []string { return sortedKeys(e.values()) }

func (e *Expect) values() map[string]any {
	b, err := yaml.Marshal(e)
	var m map[string]any
	if err != nil || yaml.Unmarshal(b, &m) != nil {
		return nil
	}
	for k, v := range m {
		if empty, is := v.(map[string]any); v == nil || is && len(empty) == 0 {
			delete(m, k)
		}
	}
	return m
}

func (e *Expect) text() string {
	m := e.values()
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, fmt.Sprintf("%s %v", k, m[k]))
	}
	if e.delegate != nil {
		out = append(out, "delegate "+*e.delegate)
	}
	for _, name := range sortedKeys(e.response) {
		if v := e.response[name]; v != nil {
			out = append(out, fmt.Sprintf("headers.response.%s %s", name, *v))
		} else {
			out = append(out, fmt.Sprintf("headers.response.%s removed", name))
		}
	}
	return strings.Join(out, ", ")
}
