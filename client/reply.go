package client

import (
	"context"
	"errors"
	"net"
	"syscall"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/transport"
)

// replies maps errors to SOCKS5 reply codes (RFC 1928, section 6). The first
// that matches counts; tor shows the code by name in its log.
var replies = []struct {
	err  error
	code byte
}{
	{transport.ErrPolicy, pt.SocksRepConnectionNotAllowed},
	{syscall.ECONNREFUSED, pt.SocksRepConnectionRefused},
	{syscall.ENETUNREACH, pt.SocksRepNetworkUnreachable},
	{syscall.EHOSTUNREACH, pt.SocksRepHostUnreachable},
	{syscall.ETIMEDOUT, pt.SocksRepTTLExpired},
	{context.DeadlineExceeded, pt.SocksRepTTLExpired},
}

// reply returns the SOCKS5 reply code for a failed dial.
func reply(err error) byte {
	for _, r := range replies {
		if errors.Is(err, r.err) {
			return r.code
		}
	}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return pt.SocksRepHostUnreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		return pt.SocksRepTTLExpired
	}
	return pt.SocksRepGeneralFailure
}
