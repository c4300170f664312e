// Package modules serves Envoy the configuration of its Wasm extensions, with
// the modules in place: it asks the control plane, fetches what that names by
// http, https or from a registry of images, and hands Envoy a local file.
//
// It consumes ECDS of the control plane and produces ECDS on a server that only
// the proxy can reach. What cannot be fetched is stood in for by what refuses
// all traffic, or lets it pass where the extension fails open. Packages
// agent/pod and up drive it.
package modules
