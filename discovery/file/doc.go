// Package file is the discovery.Source of folders and files of YAML. It reads
// Kubernetes and Istio objects, plays the parts of the API server and its
// controllers that a folder lacks (cluster addresses, pods of templates,
// EndpointSlices), and follows the files as they change. It consumes YAML and
// produces discovery.Changes; translation must not import it.
package file
