// Package replicas asks every replica of a running control plane for its debug
// pages, at addresses that are known or by a port-forward through the cluster's
// API server.
//
// Package rollout and the command wait find out by it which proxies have an
// object's version.
package replicas
