// Package story tells the canary story of examples/canary to real Envoys, step
// by step, under a load whose every response is checked. It holds tests only.
package story
