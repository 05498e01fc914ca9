package tornet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
)

// Ports are drawn from below the range that kernels use for outgoing
// connections (32768 and up on Linux, 49152 and up elsewhere): a port in that
// range can be taken by anybody's connect(2) between our choice and tor's bind.
const (
	firstPort = 12000
	lastPort  = 31999
)

// portAttempts is how often a node is set up anew because another program took
// one of its ports.
const portAttempts = 4

// ErrPortTaken means that a node could not be started because another program
// has one of its ports, again and again.
var ErrPortTaken = errors.New("a port was taken by another program")

var drawn = struct {
	sync.Mutex
	ports map[int]bool
}{ports: make(map[int]bool)}

// FreePort returns a loopback TCP port that nothing listens on and that this
// process has not handed out before. Another process may still take it before
// it is used: see [withFreshPorts].
func FreePort() (int, error) {
	drawn.Lock()
	defer drawn.Unlock()
	var last error
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if drawn.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			last = err
			continue
		}
		drawn.ports[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("found no free port on 127.0.0.1: %w", last)
}

// freePorts returns n different free ports.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	return ports, nil
}

// withFreshPorts calls start until it fails for another reason than a port that
// was taken in the meantime. start draws its ports itself.
func withFreshPorts(start func() error) error {
	var err error
	for range portAttempts {
		if err = start(); !errors.Is(err, ErrPortTaken) {
			return err
		}
	}
	return err
}

// saysPortTaken reports whether a log tells of a bind that failed because the
// address is in use, in tor's words or a transport's.
func saysPortTaken(log string) bool {
	return strings.Contains(strings.ToLower(log), "address already in use")
}
