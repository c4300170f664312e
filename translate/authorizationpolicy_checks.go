package translate

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"istio.io/api/annotation"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkAuthorizationPolicy(r *Report, m proto.Message) {
	p, _ := m.(*security.AuthorizationPolicy)
	custom := p.GetAction() == security.AuthorizationPolicy_CUSTOM
	switch {
	case custom && p.GetProvider().GetName() == "":
		r.ErrorAt("provider", "Missing", "is not set, but action CUSTOM asks a provider: whatever the rules are about is refused")
	case !custom && p.GetProvider() != nil:
		r.WarnAt("provider", "NoEffect", "has no effect with action %s, only with CUSTOM", p.GetAction())
	}
	if len(p.GetRules()) == 0 {
		switch p.GetAction() {
		case security.AuthorizationPolicy_ALLOW: // the documented way to allow nothing
		default:
			r.WarnAt("rules", "NoEffect", "is empty, so the policy is about nothing. A rule that is about everything is {}")
		}
	}
	if v, ok := r.Meta().Annotations[annotation.IoIstioDryRun.Name]; ok {
		if _, err := strconv.ParseBool(v); err != nil {
			r.Warnf("AnnotationInvalid", "annotation %s is %s; want \"true\" or \"false\". The policy is enforced", annotation.IoIstioDryRun.Name, shown(v))
		}
	}
}

func checkAction(r *Report, v protoreflect.Value) {
	checkEnum(r, security.AuthorizationPolicy_ALLOW.Descriptor(), v)
}

func checkFrom(r *Report, m proto.Message) {
	if f, _ := m.(*security.Rule_From); proto.Size(f.GetSource()) == 0 {
		r.ErrorAt("source", "Missing", "is empty; want what the caller must be like. A rule without from is for every caller")
	}
}

func checkTo(r *Report, m proto.Message) {
	if t, _ := m.(*security.Rule_To); proto.Size(t.GetOperation()) == 0 {
		r.ErrorAt("operation", "Missing", "is empty; want what is called. A rule without to is for every call")
	}
}

func checkOperation(r *Report, m proto.Message) {
	o, _ := m.(*security.Operation)
	checkContradictions(r, []listPair{
		{"hosts", "notHosts", o.GetHosts(), o.GetNotHosts()}, {"ports", "notPorts", o.GetPorts(), o.GetNotPorts()},
		{"methods", "notMethods", o.GetMethods(), o.GetNotMethods()}, {"paths", "notPaths", o.GetPaths(), o.GetNotPaths()},
	})
}

// listPair is a field of values with its negation.
type listPair struct {
	field, notField   string
	values, notValues []string
}

// checkContradictions warns of what can never be so, because each value is
// also one that must not be.
func checkContradictions(r *Report, pairs []listPair) {
	for _, p := range pairs {
		if len(p.values) > 0 && !slices.ContainsFunc(p.values, func(v string) bool {
			return !slices.Contains(p.notValues, v) && !slices.Contains(p.notValues, "*")
		}) {
			r.WarnAt(p.field, "NoEffect", "has no value that %s does not rule out: nothing is so", p.notField)
		}
	}
}

func checkSource(r *Report, m proto.Message) {
	s, _ := m.(*security.Source)
	accounts := len(s.GetServiceAccounts())+len(s.GetNotServiceAccounts()) > 0
	if accounts && len(s.GetPrincipals())+len(s.GetNotPrincipals())+len(s.GetNamespaces())+len(s.GetNotNamespaces()) > 0 {
		r.ErrorAt("serviceAccounts", "Conflict", "is set beside principals or namespaces, which say the same in another way; use one of them")
	}
	checkContradictions(r, []listPair{
		{"principals", "notPrincipals", s.GetPrincipals(), s.GetNotPrincipals()},
		{"requestPrincipals", "notRequestPrincipals", s.GetRequestPrincipals(), s.GetNotRequestPrincipals()},
		{"namespaces", "notNamespaces", s.GetNamespaces(), s.GetNotNamespaces()},
		{"serviceAccounts", "notServiceAccounts", s.GetServiceAccounts(), s.GetNotServiceAccounts()},
		{"trustDomains", "notTrustDomains", s.GetTrustDomains(), s.GetNotTrustDomains()},
		{"ipBlocks", "notIpBlocks", s.GetIpBlocks(), s.GetNotIpBlocks()},
		{"remoteIpBlocks", "notRemoteIpBlocks", s.GetRemoteIpBlocks(), s.GetNotRemoteIpBlocks()},
	})
	for _, a := range slices.Concat(s.GetServiceAccounts(), s.GetNotServiceAccounts()) {
		if strings.Contains(a, "*") || strings.Count(a, "/") > 1 || a == "" {
			r.ErrorAt("serviceAccounts", "ValueInvalid", "has %s; want namespace/account, or an account of the policy's namespace, without wildcards", shown(a))
		}
	}
	for _, p := range slices.Concat(s.GetPrincipals(), s.GetNotPrincipals()) {
		if strings.HasPrefix(p, spiffeScheme) {
			r.WarnAt("principals", "ValueInvalid", "has %s, which no caller is: leave %q out", shown(p), spiffeScheme)
		}
	}
}

func checkAddressBlock(r *Report, v protoreflect.Value) {
	if cidrRange(v.String()) == nil {
		r.Errorf("AddressInvalid", "is %s; want an IP address or a CIDR", shown(v.String()))
	}
}

func checkPortText(r *Report, v protoreflect.Value) {
	if n, err := strconv.ParseUint(v.String(), 10, 16); err != nil || n == 0 {
		r.Errorf("PortInvalid", "is %s; want a port from 1 to 65535", shown(v.String()))
	}
}

func checkPolicyPath(r *Report, v protoreflect.Value) {
	path := v.String()
	switch {
	case isPathTemplate(path):
		if fault := pathTemplateFault(path); fault != "" {
			r.Errorf("PathInvalid", "is %s, a template that %s", shown(path), fault)
		}
	case strings.ContainsAny(path, "{}"):
		r.Warnf("PathInvalid", "is %s: braces are matched as they are; templates know {*} and {**}", shown(path))
	case strings.ContainsAny(path, "?#"):
		r.Warnf("NoEffect", "is %s, which no path is: query and fragment are no part of it", shown(path))
	case !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "*"):
		r.Warnf("PathInvalid", "is %s; paths begin with a slash", shown(path))
	}
}

func checkCondition(r *Report, m proto.Message) {
	c, _ := m.(*security.Condition)
	attribute, names := splitAttribute(c.GetKey())
	_, caller := callerAttributes[attribute]
	_, call := callAttributes[attribute]
	if !caller && !call && attribute != "source.principal" && attribute != "source.trustDomain" || attribute == filterState && len(names) != 2 {
		r.ErrorAt("key", "KeyUnknown", "is %s, which no condition is about: with ALLOW the rule allows nothing, else it holds for more", shown(c.GetKey()))
		return
	}
	if len(c.GetValues())+len(c.GetNotValues()) == 0 {
		r.ErrorAt("values", "Missing", "is empty; want values or notValues")
	}
	checkContradictions(r, []listPair{{"values", "notValues", c.GetValues(), c.GetNotValues()}})
	check := map[string]func(*Report, protoreflect.Value){
		"source.ip": checkAddressBlock, "remote.ip": checkAddressBlock, "destination.ip": checkAddressBlock, "destination.port": checkPortText,
	}[attribute]
	for _, v := range slices.Concat(c.GetValues(), c.GetNotValues()) {
		if check != nil {
			check(r, protoreflect.ValueOfString(v))
		}
	}
}

// authorizationPolicyProblems are selectors without workloads, and providers
// that do not exist.
func (ix *Index) authorizationPolicyProblems() []config.Problem {
	var out []config.Problem
	for p := range ix.mesh.AuthorizationPolicies.All() {
		out = append(out, ix.attachmentProblems(&p.Meta, p.Spec)...)
		name := p.Spec.GetProvider().GetName()
		if p.Spec.GetAction() == security.AuthorizationPolicy_CUSTOM && name != "" && ix.authorizer(name, p.Namespace) == nil {
			out = append(out, config.At(&p.Meta, "spec.provider.name", config.Error, "ProviderNotFound",
				"%s is no extensionProvider of the mesh that can be asked, or its service does not exist: whatever the rules are about is refused", shown(name)))
		}
	}
	return out
}
