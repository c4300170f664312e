// Package file is a discovery.Source of folders and files of YAML.
//
// It reads any mix of Kubernetes' and Istio's kinds, watches the files, and
// does what an API server and its controllers would do for the objects in
// them: Services get addresses, workload templates pods, Services
// EndpointSlices. Mistakes are config.Problems with file and line, and leave
// the last good version of their object in effect. It consumes files and
// produces changes for a discovery.Store. Package discovery must not import
// it.
package file
