package translate

import "github.com/pilotfish-mesh/pilotfish/config"

// Problems are the mistakes that only show between objects: references to
// hosts, subsets, gateways and secrets that do not exist, objects that shadow
// one another. Those within one object are Check's.
func (ix *Index) Problems() []config.Problem {
	var out []config.Problem
	for _, find := range []func() []config.Problem{
		ix.virtualServiceProblems,
		ix.destinationRuleProblems,
		ix.gatewayProblems,
		ix.sidecarProblems,
		ix.serviceEntryProblems,
		ix.peerAuthenticationProblems,
		ix.requestAuthenticationProblems,
		ix.authorizationPolicyProblems,
		ix.extensionProblems,
		ix.telemetryProblems,
		ix.meshConfigProblems,
		ix.proxyConfigProblems,
		ix.envoyFilterProblems,
	} {
		out = append(out, find()...)
	}
	return out
}
