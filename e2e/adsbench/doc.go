// Command adsbench measures an Istio-compatible ADS server under a fleet of
// simulated sidecars: it seeds a real kube-apiserver with services, connects
// the fleet, changes one thing at a time through the API, and times when every
// proxy has it. Peers (PEER, a command) run after pilotfish on the same API
// server in the same run. It prints a table and can write it as Markdown.
//
// `make bench` runs it; --help says what can be set. Nothing of ours imports
// it.
package main
