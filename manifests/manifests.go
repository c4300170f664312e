// Package manifests holds what is applied to a cluster, embedded so that the
// commands need no files beside them. It imports nothing of ours; packages
// install and e2e use it.
package manifests

import "embed"

// IstioCRDs are the CustomResourceDefinitions of the istio.io/api version that
// go.mod requires, as multi-document YAML.
//
//go:embed chart/files/crds.yaml
var IstioCRDs []byte

// Charts are the Helm charts of the control plane (folder chart) and of a
// gateway (folder gateway).
//
//go:embed all:chart all:gateway
var Charts embed.FS
