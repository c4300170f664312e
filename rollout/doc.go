// Package rollout moves a VirtualService's traffic to a new version step by
// step, and back at the first sign that the new version is worse.
//
// It consumes a Plan, a VirtualService of an API server, the debug pages of
// every replica of the control plane and a Prometheus that scrapes the
// proxies; it produces changes of that one object by server-side apply, events
// for a display, and a Report. What a rollout has to know to go on after a
// crash is in an annotation of the object, applied together with the weights.
// Only commands import it.
package rollout
