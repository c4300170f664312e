package translate

import (
	"fmt"
	"slices"
	"strings"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// ruleWriter turns the rules of one policy into Envoy's.
//
// What a rule asks that cannot be told, of bare connections because it speaks
// of requests or because it makes no sense, is written so that less is
// allowed: a rule that allows then never holds, and one that denies (or asks
// somebody) ignores it, and so holds for more.
type ruleWriter struct {
	policy *config.AuthorizationPolicy
	// connections: there are no requests to look at.
	connections bool
	domains     []string // the mesh's trust domains, its own first
	allows      bool
	// unknown is set by what cannot be told.
	unknown bool
}

func newRuleWriter(p *config.AuthorizationPolicy, domains []string, connections bool) *ruleWriter {
	return &ruleWriter{
		policy: p, domains: domains, connections: connections,
		allows: p.Spec.GetAction() == security.AuthorizationPolicy_ALLOW,
	}
}

// never holds for nothing.
func never() *rbac.Policy {
	return &rbac.Policy{
		Permissions: []*rbac.Permission{notPermission(anyPermission())},
		Principals:  []*rbac.Principal{notPrincipal(anyPrincipal())},
	}
}

// policies are the policy's rules by name.
func (w *ruleWriter) policies(prefix string) map[string]*rbac.Policy {
	out := map[string]*rbac.Policy{}
	name := func(i int) string {
		return fmt.Sprintf("%sns[%s]-policy[%s]-rule[%d]", prefix, w.policy.Namespace, w.policy.Name, i)
	}
	if actionOf(w.policy) != w.policy.Spec.GetAction() {
		out[name(0)] = never()
		return out
	}
	for i, r := range w.policy.Spec.GetRules() {
		if p := w.rule(r); p != nil {
			out[name(i)] = p
		}
	}
	if len(w.policy.Spec.GetRules()) == 0 {
		out[name(0)] = never()
	}
	return out
}

// rule is nil for one that never holds.
func (w *ruleWriter) rule(r *security.Rule) *rbac.Policy {
	w.unknown = saysNothing(r)
	out := &rbac.Policy{}
	whenPrincipal, whenPermission := w.conditions(r.GetWhen())
	for _, from := range r.GetFrom() {
		out.Principals = append(out.Principals, andPrincipals(append(w.source(from.GetSource()), whenPrincipal...)))
	}
	if len(r.GetFrom()) == 0 {
		out.Principals = []*rbac.Principal{andPrincipals(whenPrincipal)}
	}
	for _, to := range r.GetTo() {
		out.Permissions = append(out.Permissions, andPermissions(append(w.operation(to.GetOperation()), whenPermission...)))
	}
	if len(r.GetTo()) == 0 {
		out.Permissions = []*rbac.Permission{andPermissions(whenPermission)}
	}
	if w.unknown && w.allows {
		return nil
	}
	return out
}

// saysNothing reports whether some part of a rule is empty. It was meant to
// say something: what an API server does not know of it, it drops.
func saysNothing(r *security.Rule) bool {
	return slices.ContainsFunc(r.GetFrom(), func(f *security.Rule_From) bool { return proto.Size(f.GetSource()) == 0 }) ||
		slices.ContainsFunc(r.GetTo(), func(t *security.Rule_To) bool { return proto.Size(t.GetOperation()) == 0 }) ||
		slices.ContainsFunc(r.GetWhen(), func(c *security.Condition) bool { return len(c.GetValues())+len(c.GetNotValues()) == 0 })
}

// cannotTell notes that a condition means nothing here.
func (w *ruleWriter) cannotTell() { w.unknown = true }

// matches is one condition: any of the values, and none of the others.
// of makes the form of a value, or nil if it means nothing.
func matches[T any](w *ruleWriter, values, notValues []string, of func(string) *T, or func([]*T) *T, not func(*T) *T) []*T {
	var out []*T
	for i, list := range [][]string{values, notValues} {
		var some []*T
		for _, v := range list {
			m := of(v)
			if m == nil {
				w.cannotTell()
				if i == 0 {
					some = nil // whatever it means must not come through
					break
				}
				continue
			}
			some = append(some, m)
		}
		switch {
		case len(some) == 0:
		case i == 0:
			out = append(out, or(some))
		default:
			out = append(out, not(or(some)))
		}
	}
	return out
}

// requestsOnly is of for what only requests have.
func requestsOnly[T any](w *ruleWriter, of func(string) *T) func(string) *T {
	if w.connections {
		return func(string) *T { return nil }
	}
	return of
}

func anyPermission() *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_Any{Any: true}}
}

func anyPrincipal() *rbac.Principal {
	return &rbac.Principal{Identifier: &rbac.Principal_Any{Any: true}}
}

func notPermission(p *rbac.Permission) *rbac.Permission {
	return &rbac.Permission{Rule: &rbac.Permission_NotRule{NotRule: p}}
}

func notPrincipal(p *rbac.Principal) *rbac.Principal {
	return &rbac.Principal{Identifier: &rbac.Principal_NotId{NotId: p}}
}

func orPermissions(list []*rbac.Permission) *rbac.Permission {
	if len(list) == 1 {
		return list[0]
	}
	return &rbac.Permission{Rule: &rbac.Permission_OrRules{OrRules: &rbac.Permission_Set{Rules: list}}}
}

func orPrincipals(list []*rbac.Principal) *rbac.Principal {
	if len(list) == 1 {
		return list[0]
	}
	return &rbac.Principal{Identifier: &rbac.Principal_OrIds{OrIds: &rbac.Principal_Set{Ids: list}}}
}

func andPermissions(list []*rbac.Permission) *rbac.Permission {
	switch len(list) {
	case 0:
		return anyPermission()
	case 1:
		return list[0]
	}
	return &rbac.Permission{Rule: &rbac.Permission_AndRules{AndRules: &rbac.Permission_Set{Rules: list}}}
}

func andPrincipals(list []*rbac.Principal) *rbac.Principal {
	switch len(list) {
	case 0:
		return anyPrincipal()
	case 1:
		return list[0]
	}
	return &rbac.Principal{Identifier: &rbac.Principal_AndIds{AndIds: &rbac.Principal_Set{Ids: list}}}
}

// parts of a value with at most one wildcard, at an end.
func wildcardOf(v string) (kind wildcardKind, rest string) {
	switch {
	case v == "*":
		return wildcardAny, ""
	case strings.HasPrefix(v, "*"):
		return wildcardSuffix, v[1:]
	case strings.HasSuffix(v, "*"):
		return wildcardPrefix, v[:len(v)-1]
	}
	return wildcardNone, v
}

type wildcardKind int

const (
	wildcardNone   wildcardKind = iota // the value itself
	wildcardAny                        // anything that is there
	wildcardPrefix                     // what begins with it
	wildcardSuffix                     // what ends with it
)
