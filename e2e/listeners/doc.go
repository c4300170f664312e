// Package listeners tests generated listeners with real Envoys and real
// connections: TLS at gateways, forwarding by SNI, address and weight, and
// what is told apart on one port. It has tests only; nothing imports it.
package listeners
