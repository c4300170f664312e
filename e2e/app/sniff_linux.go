package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// sniff reads every frame of this network namespace for a while. It needs
// CAP_NET_RAW.
func sniff(ctx context.Context, port uint16, d time.Duration) ([][]byte, error) {
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var out [][]byte
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Loopback is between Envoy and the application of the same pod.
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Hatype == unix.ARPHRD_LOOPBACK {
			continue
		}
		if p := payload(buf[:n], port); p != nil {
			out = append(out, bytes.Clone(p))
		}
	}
	return out, nil
}

func pool(pem string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("root: no certificate in PEM")
	}
	return p, nil
}
