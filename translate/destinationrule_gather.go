package translate

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Rule is what all DestinationRules of one host that one client sees come to,
// as a single specification. Immutable and shared by scopes.
type Rule struct {
	Spec    *networking.DestinationRule
	Sources []*config.Meta // the first one gave the traffic policy
	Hash    config.Hash
}

type destinationRuleIndex struct{}

func newDestinationRuleIndex(*config.Mesh, *serviceIndex) destinationRuleIndex {
	return destinationRuleIndex{}
}
