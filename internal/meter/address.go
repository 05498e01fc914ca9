package meter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endpoint is where figures are served: a Unix socket or a TCP address.
type endpoint struct {
	network string // "unix" or "tcp"
	address string // a path or HOST:PORT
}

// maxSocketPath is how long the path of a Unix socket can be on this system, in bytes.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// parse reads unix:PATH or HOST:PORT.
func parse(address string) (endpoint, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return endpoint{}, fmt.Errorf("%q is neither unix:PATH nor HOST:PORT", address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return endpoint{}, fmt.Errorf("the port of %q is not a number from 0 to 65535", address)
		}
		return endpoint{"tcp", address}, nil
	}
	switch {
	case path == "":
		return endpoint{}, errors.New(`"unix:" needs a path`)
	case strings.ContainsRune(path, 0):
		return endpoint{}, fmt.Errorf("%q has a NUL in it", address)
	case path[0] == '@': // to the system it is an abstract socket, which has no owner
		path = "./" + path
	}
	return endpoint{"unix", path}, checkLength(path, maxSocketPath)
}

// Needs returns what an address takes to be served at: the directory of a Unix socket, or
// a TCP port. Of one that is malformed it returns neither.
func Needs(address string) (dir string, port uint16) {
	e, err := parse(address)
	if err != nil {
		return "", 0
	}
	if e.network == "unix" {
		return filepath.Dir(e.address), 0
	}
	_, text, _ := net.SplitHostPort(e.address) // parse has
	n, _ := strconv.ParseUint(text, 10, 16)
	return "", uint16(n)
}

func checkLength(path string, limit int) error {
	if len(path) > limit {
		return fmt.Errorf("the path of the Unix socket has %d bytes, and can have %d here: choose a shorter one, or one relative to the working directory", len(path), limit)
	}
	return nil
}

// CheckAddress tells whether figures could be served at an address: unix:PATH, or the
// HOST:PORT of a loopback IP address. Other machines must not ask.
func CheckAddress(address string) error {
	e, err := parse(address)
	if err == nil {
		err = e.checkServed()
	}
	if err != nil {
		return fmt.Errorf("-metrics: %w", err)
	}
	return nil
}

// checkServed tells whether figures may be served there.
func (e endpoint) checkServed() error {
	if e.network == "unix" {
		// It is bound under another name first.
		return checkLength(e.address, maxSocketPath-max(0, len(boundName)-len(filepath.Base(e.address))))
	}
	host, _, err := net.SplitHostPort(e.address)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.Unmap().IsLoopback() {
		return fmt.Errorf("%q is no loopback IP address: the figures are for this machine only", host)
	}
	return nil
}
