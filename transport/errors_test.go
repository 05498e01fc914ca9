package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// What is logged of an error says what happened, and not where.
func TestScrub(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	proxy := &ProxyError{Kind: "http", Err: errors.New(`it answered "407 Denied"`)}
	for want, err := range map[string]error{
		"":                              nil,
		"dial: connection refused":      &Error{"dial", ErrNetwork, refused},
		"connection refused":            refused,
		"dial: name lookup failed":      &Error{"dial", ErrNetwork, &net.DNSError{Err: "no such host", Name: "bridge.example"}},
		"dial: timed out":               &Error{"dial", ErrNetwork, os.ErrDeadlineExceeded},
		"cancelled":                     fmt.Errorf("to bridge.example: %w", context.Canceled),
		"the network connection failed": fmt.Errorf("to bridge.example: %w", errors.New("unknown")),
		`dial: upstream http proxy: it answered "407 Denied"`: &Error{"dial", ErrNetwork, proxy},
	} {
		if got := Scrub(err); got != want {
			t.Errorf("%v is logged as %q, want %q", err, got, want)
		}
	}
}
