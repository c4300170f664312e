// Package traffic proves by real requests through real Envoys what generated
// configuration does. It holds tests only: a theme is a folder of YAML under
// testdata and a table of requests and the answers that they must get.
package traffic
