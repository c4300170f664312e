// Package simulate answers what Envoys do with a request or a connection,
// without running any.
//
// A Config is what one Envoy was sent, and answers for it alone: it reads
// listeners, filter chains, routes, clusters and endpoints in the way that
// Envoy does, and knows nothing of Istio's API. A World is a whole mesh: it
// translates for each proxy when it is first asked about and follows a request
// from the client's side to the server's. What the simulator does not know is
// told in the answer and never guessed; a real Envoy is the judge of the rest,
// in the tests.
//
// It consumes config.Mesh and translate.Resources and produces Answers for
// package meshtest and the command line. It does no I/O. Nothing on the road
// that a change takes to a proxy may import it.
package simulate
