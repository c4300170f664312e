package simulate

import (
	"regexp"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// policyName is the form of an RBAC policy's name that says which
// AuthorizationPolicy and which of its rules it came from.
var policyName = regexp.MustCompile(`^(?:.*-)?ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]$`)

// policySource is the object behind an RBAC policy, or nil.
func policySource(name string) *Source {
	m := policyName.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	return &Source{Object: config.Key{Group: "security.istio.io", Kind: "AuthorizationPolicy", Namespace: m[1], Name: m[2]}}
}
