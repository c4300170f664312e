// Package manifests holds what is applied to a cluster, embedded so that the
// commands need no files beside them.
package manifests

import _ "embed"

// IstioCRDs are the CustomResourceDefinitions of the istio.io/api version that
// go.mod requires, as multi-document YAML.
//
//go:embed crds/istio.yaml
var IstioCRDs []byte
