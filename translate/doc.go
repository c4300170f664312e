// Package translate turns Istio configuration into Envoy resources.
//
// It works in two steps. Gather: an Index arranges one config.Mesh for look-up,
// and a Scope collects from it everything that one class of proxies may see,
// with conflicts between objects already settled. Decide: a Translator makes
// Envoy resources from a Scope alone. Both are pure: no clock, context,
// logger, lock, global, environment or client. A Scope's Key covers exactly
// what it gathered, so equal keys mean equal resources.
//
// It consumes config.Mesh and produces Resources and config.Problems for
// package snapshot, and Checks for the webhook and the command line. Package
// discovery must not import it.
package translate
