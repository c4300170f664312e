// Package serve is the running control plane: the road from sources to
// streams wired together (Plane), and the listeners, pages and certificates
// around it (Run).
//
// It consumes sources and options and produces gRPC and HTTP services. The
// commands and package up run it; nothing that it runs may import it.
package serve
