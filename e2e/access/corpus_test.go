package access

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// dice draws policies and calls.
type dice struct{ *rand.Rand }

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func (d dice) some(list ...string) []string {
	out := []string{list[d.IntN(len(list))]}
	if other := list[d.IntN(len(list))]; d.chance(40) && other != out[0] {
		out = append(out, other)
	}
	return out
}

// kind is a field with values that it may be drawn with.
type kind struct {
	name   string
	values []string
}

var (
	blocks  = []string{"127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"}
	callers = []string{"*", "cluster.local/ns/default/sa/friend", "*/sa/guest", "cluster.local/ns/other/*", "cluster.local/ns/default/sa/frien"}
	subject = []string{"*", "a.example.com/alice", "a.example.com/*", "*/bob", "b.example.com/alice"}
	sources = []kind{
		{"principals", callers}, {"namespaces", []string{"default", "other", "def*", "*her", "defaul"}}, {"serviceAccounts", []string{"friend", "other/guest", "guest"}},
		{"trustDomains", []string{"cluster.local", "cluster.*", "*.local", "*", "cluster", "other.example"}},
		{"requestPrincipals", subject}, {"ipBlocks", blocks}, {"remoteIpBlocks", blocks},
	}
	operations = []kind{
		{"hosts", []string{"web", "x.test", "*.test", "x*", "X.TEST", "x.test:81", "*"}}, {"ports", []string{"8080", "8881", "8880", "9000", "7070"}},
		{"methods", []string{"GET", "P*", "*ST", "*"}}, {"paths", []string{"/a", "/a*", "*b", "*", "/a/{*}", "/a/{**}", "/{*}/b", "/a/{*}/c", "/a?q"}},
	}
	conditions = []kind{
		{"source.serviceAccount", []string{"friend", "other/guest"}}, {"source.trustDomain", []string{"cluster.local", "*.example"}},
		{"source.principal", callers}, {"source.namespace", []string{"default", "oth*"}}, {"source.ip", blocks}, {"destination.ip", blocks}, {"destination.port", []string{"8080", "9000", "8881"}},
		{"request.headers[x-key]", []string{"one", "o*", "*e", "*"}}, {"request.auth.principal", subject}, {"request.auth.claims[group]", []string{"dev", "d*", "*s", "*"}}, {"request.auth.audiences", []string{"web", "x"}},
	}
	users = []map[string][]string{
		nil, nil, {"iss": {"a.example.com"}, "sub": {"alice"}, "group": {"dev"}, "aud": {"web"}}, {"iss": {"a.example.com"}, "sub": {"bob"}, "group": {"ops", "dev"}}, {"iss": {"a.example.com"}, "sub": {"carol"}},
	}
)

func (d dice) fields(of []kind) fields {
	out := fields{}
	for range 1 + d.IntN(2) {
		k := of[d.IntN(len(of))]
		name := k.name
		if d.chance(30) {
			name = "not" + strings.ToUpper(name[:1]) + name[1:]
		}
		out[name] = d.some(k.values...)
		if _, accounts := out["serviceAccounts"]; accounts || out["notServiceAccounts"] != nil { // not beside what says the same
			for _, n := range []string{"principals", "notPrincipals", "namespaces", "notNamespaces"} {
				delete(out, n)
			}
		}
	}
	return out
}

func (d dice) rule() drawnRule {
	var r drawnRule
	for d.chance(45) && len(r.From) < 2 {
		r.From = append(r.From, d.fields(sources))
	}
	for d.chance(55) && len(r.To) < 2 {
		r.To = append(r.To, d.fields(operations))
	}
	for d.chance(40) && len(r.When) < 2 {
		k := conditions[d.IntN(len(conditions))]
		c := cond{Key: k.name, Values: d.some(k.values...)}
		if d.chance(30) {
			c = cond{Key: k.name, NotValues: c.Values}
		}
		r.When = append(r.When, c)
	}
	return r
}

func (d dice) policies() []drawnPolicy {
	var out []drawnPolicy
	for range 1 + d.IntN(3) {
		p := drawnPolicy{Action: d.some("ALLOW", "ALLOW", "DENY", "AUDIT")[0], Rules: []drawnRule{}}
		for range d.IntN(4) {
			p.Rules = append(p.Rules, d.rule())
		}
		out = append(out, p)
	}
	return out
}

func (d dice) call() *call {
	c := &call{From: d.some("default/friend", "default/friend", "other/guest", "default/plain")[0]}
	if d.chance(25) {
		c.TCP, c.Port = true, 9000
		return c
	}
	c.Port = []int{8080, 8080, 8880, 7070}[d.IntN(4)]
	c.Method = d.some("GET", "GET", "POST", "PUT", "DELETE")[0]
	c.Path = d.some("/", "/a", "/a/b", "/a/b/c", "/ab", "/A", "/a?q", "/b?x=/a", "/c/b")[0]
	c.Host = "web.default" // sidecars route by it
	if c.From == "default/plain" {
		c.Host = d.some("web", "x.test", "X.Test:80", "x.test:81", "other")[0]
	}
	if d.chance(50) {
		c.XKey = d.some("one", "two")[0]
	}
	c.Claims = users[d.IntN(len(users))]
	return c
}

// corpus is a mesh in which drawn policies decide.
type corpus struct {
	*world
	issuer *issuer
	tokens map[string]string // by subject
}

func newCorpus(t *testing.T) *corpus {
	return &corpus{start(t), newIssuer(t, "a.example.com"), map[string]string{}}
}

func (k *corpus) put(policies []drawnPolicy) {
	k.t.Helper()
	var b strings.Builder
	b.WriteString(authentication(k.issuer.rule("")))
	for i, p := range policies {
		b.WriteString(named(fmt.Sprint("p", i), p.Action, p.yaml()))
	}
	k.Delivered(func() { k.Write("policy.yaml", b.String()) })
	k.inForce(k.t)
}

// yaml is the rules as JSON, which is YAML.
func (p *drawnPolicy) yaml() string {
	list := []any{}
	for _, r := range p.Rules {
		out := map[string]any{}
		for _, f := range r.From {
			out["from"] = append(asList(out["from"]), map[string]any{"source": f})
		}
		for _, f := range r.To {
			out["to"] = append(asList(out["to"]), map[string]any{"operation": f})
		}
		if len(r.When) > 0 {
			out["when"] = r.When
		}
		list = append(list, out)
	}
	js, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts only
	}
	return string(js)
}

func asList(v any) []any { l, _ := v.([]any); return l }

// asked is a call as a request.
func (k *corpus) asked(c *call, want string) request {
	r := request{from: c.From, port: c.Port, method: c.Method, path: c.Path, host: c.Host, want: want}
	if c.TCP {
		r.bytes = "hello there"
		return r
	}
	if c.XKey != "" {
		r.header = "X-Key: " + c.XKey
	}
	if c.Claims != nil {
		subject := c.Claims["sub"][0]
		if k.tokens[subject] == "" {
			all := claims{}
			for name, values := range c.Claims {
				if all[name] = values; len(values) == 1 {
					all[name] = values[0]
				}
			}
			k.tokens[subject] = k.issuer.token(k.t, all)
		}
		r.header = strings.TrimPrefix(r.header+"\nAuthorization: Bearer "+k.tokens[subject], "\n")
	}
	return r
}

// disagrees says where the Envoy decides otherwise than the policies' text
// means, and goes on doing so.
func (k *corpus) disagrees(policies []drawnPolicy, c *call) string {
	r := k.asked(c, decides(policies, c))
	wrong := ""
	for range 5 { // a busy machine may lose a connection
		if wrong = k.differs(r); wrong == "" {
			return ""
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // only after a failure
	}
	return wrong
}

// TestCorpus: drawn policies and calls. ACCESS_PAIRS and ACCESS_SEED in the
// environment say how many, and of which seed.
func TestCorpus(t *testing.T) {
	pairs, seed := envoytest.Setting(t, "ACCESS_PAIRS", 1200), envoytest.Setting(t, "ACCESS_SEED", 1)
	d, k := dice{rand.New(rand.NewPCG(uint64(seed), 1))}, newCorpus(t) //nolint:gosec // repeatable
	const perConfiguration = 60
	count := map[string]int{}
	for done := 0; done < pairs; done += perConfiguration {
		policies := d.policies()
		k.put(policies)
		for range perConfiguration {
			c := d.call()
			count[decides(policies, c)]++
			if wrong := k.disagrees(policies, c); wrong != "" {
				k.report(policies, c, wrong)
				return
			}
		}
	}
	t.Logf("%v", count)
	for _, outcome := range []string{ok, denied, closed} {
		if count[outcome] < pairs/50 {
			t.Errorf("%d of %d were %s: the corpus proves little", count[outcome], pairs, outcome)
		}
	}
}

// kept is a case: Want is written down, so that it holds the oracle, too.
type kept struct {
	Policies []drawnPolicy `json:"policies"`
	Call     call          `json:"call"`
	Want     string        `json:"want"`
}

// report makes a disagreement as small as it will be and prints it.
func (k *corpus) report(policies []drawnPolicy, c *call, wrong string) {
	for again := true; again; {
		again = false
		for _, smaller := range simpler(policies) {
			k.put(smaller)
			if w := k.disagrees(smaller, c); w != "" {
				policies, wrong, again = smaller, w, true
				break
			}
		}
	}
	js, err := json.MarshalIndent(kept{policies, *c, decides(policies, c)}, "", "  ")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Errorf("the policies' text and Envoy disagree: %s\nKeep this in testdata/kept, if want is right:\n%s", wrong, js)
}

// simpler are the policies with one thing less.
func simpler(policies []drawnPolicy) [][]drawnPolicy {
	var out [][]drawnPolicy
	for i := range policies {
		out = append(out, append(append([]drawnPolicy{}, policies[:i]...), policies[i+1:]...))
		for j := range policies[i].Rules {
			for _, r := range policies[i].Rules[j].simpler() {
				q := copied(policies)
				q[i].Rules[j] = r
				out = append(out, q)
			}
			q := copied(policies)
			q[i].Rules = append(q[i].Rules[:j], q[i].Rules[j+1:]...)
			out = append(out, q)
		}
	}
	return out
}

func (r *drawnRule) simpler() []drawnRule {
	var out []drawnRule
	for i := range r.From {
		out = append(out, drawnRule{append(append([]fields{}, r.From[:i]...), r.From[i+1:]...), r.To, r.When})
	}
	for i := range r.To {
		out = append(out, drawnRule{r.From, append(append([]fields{}, r.To[:i]...), r.To[i+1:]...), r.When})
	}
	for i := range r.When {
		out = append(out, drawnRule{r.From, r.To, append(append([]cond{}, r.When[:i]...), r.When[i+1:]...)})
	}
	return out
}

func copied(policies []drawnPolicy) []drawnPolicy {
	out := make([]drawnPolicy, len(policies))
	for i, p := range policies {
		out[i] = drawnPolicy{p.Action, append([]drawnRule{}, p.Rules...)}
	}
	return out
}

// TestKept tries cases again whose right answer is written down.
func TestKept(t *testing.T) {
	files, err := filepath.Glob("testdata/kept/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	k := newCorpus(t)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var c kept
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if meant := decides(c.Policies, &c.Call); meant != c.Want {
			t.Errorf("%s: the oracle says %s, want %s", f, meant, c.Want)
		}
		k.put(c.Policies)
		envoytest.Eventually(t, 2*time.Second, func() string { return k.differs(k.asked(&c.Call, c.Want)) })
	}
}
