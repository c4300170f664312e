// Package dashboard is the web page of a running mesh: configured weights
// against what clients observed, what each proxy has acknowledged, problems,
// and the last changes and how long they took.
//
// It consumes read-only views of the running parts (the interfaces in
// sources.go, which its callers fill) and one writer of weights, and produces
// an http.Handler. Everything that a browser loads is embedded; the page and
// the package use no network but the page's own connection. Only commands and
// package up may import it; nothing that a proxy is configured by does.
package dashboard
