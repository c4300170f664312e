// Package ca is the mesh's certificate authority: roots and their rotation, the
// signing of workload certificates, and the proof of who asks.
//
// It consumes certificate requests (IstioCertificateService), the Secrets that
// hold the signing key and the API server's answers about tokens, and produces
// certificates, the trust bundle and Callers. Package serve runs it; whatever
// runs in a workload's pod must not import it.
package ca
