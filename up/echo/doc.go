// Package echo is the application of a local mesh's workloads: a server that
// answers every request with who it is and what it was asked.
//
// One port takes HTTP/1.1, HTTP/2, and plain TCP, each with TLS or without:
// the first bytes of a connection tell which. It consumes listening sockets and an Identity,
// and imports none of our packages; packages up and e2e start it.
package echo
