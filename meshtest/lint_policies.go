package meshtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// callersUnknown are rules of AuthorizationPolicies about namespaces, accounts
// and methods that nothing in the configuration has. What is merely not there
// is told as a remark, since a caller may come from elsewhere; what looks like
// something that is there is a mistake.
func callersUnknown(m *config.Mesh) []config.Problem {
	c := &callerCheck{mesh: m, accounts: map[string][]string{}}
	seen := map[string]bool{}
	for w := range m.Workloads.All() {
		seen[w.Namespace] = true
		account := w.ServiceAccount
		if account == "" {
			account = "default"
		}
		if !slices.Contains(c.accounts[w.Namespace], account) {
			c.accounts[w.Namespace] = append(c.accounts[w.Namespace], account)
		}
	}
	for n := range m.Namespaces.All() {
		seen[n.Name] = true
	}
	for _, ns := range m.Services.Namespaces() {
		seen[ns] = true
	}
	c.namespaces = slices.Sorted(maps.Keys(seen))
	for p := range m.AuthorizationPolicies.All() {
		for i, r := range p.Spec.GetRules() {
			c.rule(&p.Meta, fmt.Sprintf("spec.rules[%d]", i), r)
		}
	}
	return c.problems
}

type callerCheck struct {
	mesh       *config.Mesh
	namespaces []string
	accounts   map[string][]string // by namespace
	problems   []config.Problem
}

func (c *callerCheck) rule(meta *config.Meta, at string, r *security.Rule) {
	for j, f := range r.GetFrom() {
		from, source := fmt.Sprintf("%s.from[%d].source.", at, j), f.GetSource()
		c.each(meta, from+"namespaces", source.GetNamespaces(), c.namespace)
		c.each(meta, from+"notNamespaces", source.GetNotNamespaces(), c.namespace)
		c.each(meta, from+"principals", source.GetPrincipals(), c.principal)
		c.each(meta, from+"notPrincipals", source.GetNotPrincipals(), c.principal)
		c.each(meta, from+"serviceAccounts", source.GetServiceAccounts(), c.serviceAccount)
		c.each(meta, from+"notServiceAccounts", source.GetNotServiceAccounts(), c.serviceAccount)
	}
	for j, t := range r.GetTo() {
		to := fmt.Sprintf("%s.to[%d].operation.", at, j)
		c.each(meta, to+"methods", t.GetOperation().GetMethods(), c.method)
		c.each(meta, to+"notMethods", t.GetOperation().GetNotMethods(), c.method)
	}
}

func (c *callerCheck) each(meta *config.Meta, field string, values []string, check func(meta *config.Meta, field, value string)) {
	for i, v := range values {
		check(meta, fmt.Sprintf("%s[%d]", field, i), v)
	}
}

func (c *callerCheck) say(meta *config.Meta, field, code, near, format string, args ...any) {
	severity, text := config.Info, fmt.Sprintf(format, args...)
	if near != "" {
		severity = config.Warning
		text += fmt.Sprintf(": did you mean %q?", near)
	}
	c.problems = append(c.problems, config.At(meta, field, severity, code, "%s", text))
}

func (c *callerCheck) namespace(meta *config.Meta, field, ns string) {
	if slices.ContainsFunc(c.namespaces, func(known string) bool { return isLike(ns, known) }) {
		return
	}
	if strings.Contains(ns, "*") {
		c.say(meta, field, "NamespaceNotFound", "", "is %q, and no namespace of the configuration is like it", ns)
		return
	}
	c.say(meta, field, "NamespaceNotFound", config.Nearest(ns, c.namespaces), "is %q, a namespace of which nothing is in the configuration", ns)
}

func (c *callerCheck) principal(meta *config.Meta, field, name string) {
	parts := strings.Split(strings.TrimPrefix(name, "spiffe://"), "/")
	if strings.Contains(name, "*") || len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return
	}
	mesh := c.mesh.Settings.Mesh
	domains := append([]string{"cluster.local", mesh.GetTrustDomain()}, mesh.GetTrustDomainAliases()...)
	if !slices.Contains(domains, parts[0]) {
		return // of another mesh
	}
	c.account(meta, field, parts[2], parts[4])
}

func (c *callerCheck) serviceAccount(meta *config.Meta, field, name string) {
	ns, account, ok := strings.Cut(name, "/")
	if !ok {
		ns, account = meta.Namespace, name
	}
	c.account(meta, field, ns, account)
}

func (c *callerCheck) account(meta *config.Meta, field, ns, account string) {
	have := c.accounts[ns]
	if strings.Contains(ns+account, "*") || slices.Contains(have, account) {
		return
	}
	near := ""
	if best := config.Nearest(account, have); best != "" {
		near = ns + "/" + best
	} else if best := config.Nearest(ns, c.namespaces); len(have) == 0 && slices.Contains(c.accounts[best], account) {
		near = best + "/" + account
	}
	c.say(meta, field, "AccountNotFound", near, "no workload runs as service account %s/%s", ns, account)
}

var httpMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}

func (c *callerCheck) method(meta *config.Meta, field, method string) {
	if strings.Contains(method, "*") || slices.Contains(httpMethods, method) {
		return
	}
	if strings.HasPrefix(method, "/") {
		c.say(meta, field, "MethodUnknown", "", "is %q: a gRPC method is a path, and its requests have method POST; write it below paths", method)
		return
	}
	c.say(meta, field, "MethodUnknown", config.Nearest(method, httpMethods), "is %q, which is no HTTP method; upper and lower case differ", method)
}
