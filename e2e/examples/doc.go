// Package examples runs every folder of examples/ but the canary, whose test is
// package story, with real Envoys, and checks the answers to real requests. It
// holds tests only.
package examples
