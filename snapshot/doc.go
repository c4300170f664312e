// Package snapshot serves what translate makes: a Cache that holds the
// resources of every kind of connected proxy, and an ADS Server that brings
// each proxy from what it has to what it should have, over delta or
// state-of-the-world xDS.
//
// It consumes published config.Meshes and produces bytes on streams, besides
// the state that metrics, debug pages and the dashboard show. Package
// discovery must not be imported here, and translate must not import this
// package.
package snapshot
