// Package config is pilotfish's model of a mesh: services, endpoints, workloads,
// Istio's configuration objects, proxies, and the problems found in any of them.
//
// A Mesh is one published state of all of it and never changes after its
// Builder has returned it; an update builds a new Mesh that shares everything
// untouched with the one before. Package discovery produces Meshes, packages
// translate and snapshot consume them. This package imports none of ours.
package config
