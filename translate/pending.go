package translate

import "github.com/pilotfish-mesh/pilotfish/config"

func (ix *Index) gatewayProblems() []config.Problem { return nil }
func (ix *Index) sidecarProblems() []config.Problem { return nil }
