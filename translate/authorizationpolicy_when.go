package translate

import (
	"strings"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	security "istio.io/api/security/v1beta1"
)

// conditions are a rule's further conditions, all of which must hold: those on
// the caller, and those on the call.
func (w *ruleWriter) conditions(list []*security.Condition) (callers []*rbac.Principal, calls []*rbac.Permission) {
	for _, c := range list {
		values, notValues := c.GetValues(), c.GetNotValues()
		switch attribute, names := splitAttribute(c.GetKey()); attribute {
		case "source.principal":
			callers = append(callers, w.principals(w.inDomains(values), w.inDomains(notValues), principalNamed)...)
		case "source.trustDomain":
			callers = append(callers, w.principals(w.withAliases(values), w.withAliases(notValues), domainNamed)...)
		default:
			switch {
			case callerAttributes[attribute] != nil:
				callers = append(callers, w.principals(values, notValues, callerAttributes[attribute](w, names))...)
			case callAttributes[attribute] != nil:
				calls = append(calls, w.permissions(values, notValues, callAttributes[attribute](names))...)
			default:
				w.cannotTell()
			}
		}
	}
	return callers, calls
}

// callerAttributes are the keys of conditions on the caller.
var callerAttributes = map[string]func(w *ruleWriter, names []string) func(string) *rbac.Principal{
	"source.ip":        func(*ruleWriter, []string) func(string) *rbac.Principal { return peerAddress },
	"remote.ip":        func(*ruleWriter, []string) func(string) *rbac.Principal { return clientAddress },
	"source.namespace": func(*ruleWriter, []string) func(string) *rbac.Principal { return namespaceNamed },
	"source.serviceAccount": func(w *ruleWriter, _ []string) func(string) *rbac.Principal {
		return w.accountNamed
	},
	"request.auth.principal": func(w *ruleWriter, _ []string) func(string) *rbac.Principal { return requestsOnly(w, tokenNamed) },
	"request.auth.audiences": func(w *ruleWriter, _ []string) func(string) *rbac.Principal {
		return requestsOnly(w, claimNamed([]string{"aud"}))
	},
	"request.auth.presenter": func(w *ruleWriter, _ []string) func(string) *rbac.Principal {
		return requestsOnly(w, claimNamed([]string{"azp"}))
	},
	"request.auth.claims": func(w *ruleWriter, names []string) func(string) *rbac.Principal {
		return requestsOnly(w, claimNamed(names))
	},
	"request.headers": func(w *ruleWriter, names []string) func(string) *rbac.Principal {
		return requestsOnly(w, headerNamed(strings.Join(names, "")))
	},
}

// callAttributes are the keys of conditions on the call.
var callAttributes = map[string]func(names []string) func(string) *rbac.Permission{
	"destination.ip":   func([]string) func(string) *rbac.Permission { return addressNumbered },
	"destination.port": func([]string) func(string) *rbac.Permission { return portNumbered },
	"connection.sni":   func([]string) func(string) *rbac.Permission { return sniNamed },
	filterState: func(names []string) func(string) *rbac.Permission {
		if len(names) != 2 {
			return stateNamed("", "")
		}
		return stateNamed(names[0], names[1])
	},
}

// filterState begins the keys of conditions on what other filters noted:
// experimental.envoy.filters.<name>[key].
const filterState = "experimental.envoy.filters."

// splitAttribute takes the names in brackets off a condition's key:
// request.auth.claims[a][b]. For filterState the filter's name is the first.
func splitAttribute(key string) (attribute string, names []string) {
	attribute, rest, ok := strings.Cut(key, "[")
	if ok {
		if !strings.HasSuffix(rest, "]") {
			return key, nil
		}
		names = strings.Split(strings.TrimSuffix(rest, "]"), "][")
	}
	if strings.HasPrefix(attribute, filterState) {
		return filterState, append([]string{strings.TrimPrefix(attribute, "experimental.")}, names...)
	}
	named := attribute == "request.auth.claims" || attribute == "request.headers"
	if named != ok || attribute == "request.headers" && len(names) != 1 {
		return key, nil // no attribute of that form
	}
	return attribute, names
}
