package meshtest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"sort"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Logged is one request of an access log.
type Logged struct {
	Method, Path, Authority string
	UserAgent               string
	// Remote is the client's address, Local the one that it connected to.
	Remote, Local string
	Cluster       string
	TLS           bool
}

// ParseLog reads a line of Istio's access logs, in the JSON or in the default
// text form. ok is false for what is no request of a client's side.
func ParseLog(line string) (l Logged, ok bool) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "{") {
		l, ok = parseJSONLog(line)
	} else {
		l, ok = parseTextLog(line)
	}
	return l, ok && l.Method != "" && l.Authority != "" && !strings.HasPrefix(l.Cluster, "inbound|")
}

func parseJSONLog(line string) (Logged, bool) {
	var e struct {
		Method    string  `json:"method"`
		Path      string  `json:"path"`
		Authority string  `json:"authority"`
		UserAgent *string `json:"user_agent"`
		Remote    string  `json:"downstream_remote_address"`
		Local     string  `json:"downstream_local_address"`
		Cluster   *string `json:"upstream_cluster"`
	}
	if json.Unmarshal([]byte(line), &e) != nil {
		return Logged{}, false
	}
	l := Logged{Method: e.Method, Path: e.Path, Authority: e.Authority, Remote: e.Remote, Local: e.Local}
	if e.UserAgent != nil {
		l.UserAgent = *e.UserAgent
	}
	if e.Cluster != nil {
		l.Cluster = *e.Cluster
	}
	return l, true
}

// textLog is the default format (MeshConfig.accessLogFormat).
var textLog = regexp.MustCompile(`^\[[^\]]*\] "(\S+) (\S+) [^"]*" \d+ \S+ \S+ \S+ "[^"]*" \S+ \S+ \S+ \S+ "[^"]*" "([^"]*)" "[^"]*" "([^"]*)" "[^"]*" (\S+) \S+ (\S+) (\S+) `)

func parseTextLog(line string) (Logged, bool) {
	m := textLog.FindStringSubmatch(line + " ")
	if m == nil {
		return Logged{}, false
	}
	return Logged{Method: m[1], Path: m[2], UserAgent: m[3], Authority: m[4], Cluster: m[5], Local: m[6], Remote: m[7]}, true
}

// Replayed is what two configurations do with the requests of a log.
type Replayed struct {
	Requests  int             `json:"requests"`
	Different int             `json:"different"`
	Groups    []RequestChange `json:"groups"`
	// Failing are requests that worked before and fail now.
	Failing int `json:"failing"`
	// Unreadable lines, and Unanswered requests whose client or host neither
	// configuration has.
	Unreadable int `json:"unreadable"`
	Unanswered int `json:"unanswered"`
}

// Replay asks both configurations about each request. from is who sends those
// whose client's address no workload has; "" finds out who serves the host.
func Replay(before, after *simulate.World, log []Logged, from string) *Replayed {
	out := &Replayed{Groups: []RequestChange{}}
	c := newComparison(before, after, &Difference{})
	counts := map[Logged]int{}
	for _, l := range log {
		l.Remote, _, _ = strings.Cut(l.Remote, ":") // requests of one client are one
		counts[l]++
	}
	for l, n := range counts {
		out.Requests += n
		q := l.query(after, from)
		if q == nil {
			out.Unanswered += n
			continue
		}
		groups := len(c.out.Requests)
		had := totals(c.out.Requests)
		c.compare(q)
		if totals(c.out.Requests) == had {
			continue
		}
		out.Different += n
		for i := range c.out.Requests {
			if g := &c.out.Requests[i]; i >= groups || g.Witness != "" && groupOf(c, q) == i {
				g.Count += n - 1
				break
			}
		}
		if a, err := before.Ask(q); err == nil && works(a) {
			if b, err := after.Ask(q); err != nil || !works(b) || answers(b, 404) || answers(b, 403) {
				out.Failing += n
			}
		}
	}
	out.Groups = append(out.Groups, c.out.Requests...)
	sort.SliceStable(out.Groups, func(i, j int) bool { return out.Groups[i].Count > out.Groups[j].Count })
	return out
}

func totals(list []RequestChange) (n int) {
	for _, g := range list {
		n += g.Count
	}
	return n
}

// groupOf is the group that a query's difference belongs to.
func groupOf(c *comparison, q *simulate.Query) int {
	a, errA := c.before.Ask(q)
	b, errB := c.after.Ask(q)
	was, now := different(summary(a, errA), summary(b, errB))
	if i, ok := c.groups[was+"\n"+now+"\n"+c.cause(a, b)]; ok {
		return i
	}
	return -1
}

func answers(a *simulate.Answer, status int) bool {
	for i := range a.Results {
		if a.Results[i].Status == status {
			return true
		}
	}
	return false
}

// query is the request as its client sent it; nil if nobody is known who
// could have.
func (l *Logged) query(w *simulate.World, from string) *simulate.Query {
	host := l.Authority
	if _, port, err := net.SplitHostPort(l.Local); err == nil && !strings.Contains(host, ":") && port != "80" && port != "8080" {
		host = net.JoinHostPort(host, port)
	}
	q := &simulate.Query{From: from, URL: fmt.Sprintf("http://%s%s", host, l.Path), Method: l.Method}
	q.Header = simulate.Header{{Name: "Host", Value: l.Authority}}
	if l.UserAgent != "" && l.UserAgent != "-" {
		q.Header = append(q.Header, simulate.Field{Name: "user-agent", Value: l.UserAgent})
	}
	if a, err := netip.ParseAddr(l.Remote); err == nil {
		if p := w.At(a); p != nil {
			q.From = p.Name()
		}
	}
	if q.From == "" {
		who, ok := w.Serves(q)
		if !ok {
			return nil
		}
		q.From = who
	}
	return q
}
