// Package judge compares what package simulate says with what real Envoys do.
//
// It makes up configurations and requests from a seed, sends each request
// through an Envoy that the control plane has configured, and asks the
// simulator the same. A disagreement is made as small as it will be and
// printed as a case for testdata, where all earlier ones are tried again. Most
// are about one Envoy; TestWholeWay follows requests through a mesh of them, and
// requires that every field of the API that they can show decided one. It
// holds tests only and leaves nothing running.
package judge
