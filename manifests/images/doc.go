// Package images makes pilotfish's container images from files of this
// machine, with no daemon and no registry: it consumes binaries and writes
// docker archives, which docker load, ctr images import and kind load take.
// The same files give the same bytes: no time, owner or order of this machine
// gets in. It imports none of our packages; its command build and package e2e
// use it.
package images
