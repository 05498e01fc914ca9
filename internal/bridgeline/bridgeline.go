// Package bridgeline reads and writes bridge lines, as they are in torrc.
package bridgeline

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"waterproxy/transport"
)

// Line is a bridge line with a transport.
type Line struct {
	Transport   string
	Address     string // HOST:PORT
	Fingerprint string // "" if there is none
	Args        transport.Args
}

var (
	transportName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	fingerprint   = regexp.MustCompile(`^\$?[0-9A-Fa-f]{40}$`)
)

// Parse reads [Bridge] TRANSPORT HOST:PORT [FINGERPRINT] [KEY=VALUE ...].
func Parse(s string) (Line, error) {
	fields := strings.Fields(s)
	if len(fields) > 0 && strings.EqualFold(fields[0], "bridge") {
		fields = fields[1:]
	}
	if len(fields) < 2 {
		return Line{}, errors.New("a bridge line is TRANSPORT ADDRESS:PORT [FINGERPRINT] [KEY=VALUE ...]")
	}
	l := Line{Transport: fields[0], Address: fields[1]}
	if !transportName.MatchString(l.Transport) {
		return Line{}, fmt.Errorf("%q is no transport's name; a bridge line begins with one", l.Transport)
	}
	if err := CheckAddress(l.Address); err != nil {
		return Line{}, err
	}
	rest := fields[2:]
	if len(rest) > 0 && fingerprint.MatchString(rest[0]) {
		l.Fingerprint = strings.ToUpper(strings.TrimPrefix(rest[0], "$"))
		rest = rest[1:]
	}
	for _, arg := range rest {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return Line{}, fmt.Errorf("%q is neither a fingerprint in its place nor of the form KEY=VALUE", arg)
		}
		if l.Args == nil {
			l.Args = transport.Args{}
		}
		l.Args[key] = append(l.Args[key], value)
	}
	return l, nil
}

// CheckAddress tells whether an address is a HOST:PORT that can be connected to.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not of the form HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

// String writes the line as torrc has it.
func (l Line) String() string {
	fields := []string{"Bridge", l.Transport, l.Address}
	if l.Fingerprint != "" {
		fields = append(fields, l.Fingerprint)
	}
	for _, key := range slices.Sorted(maps.Keys(l.Args)) {
		for _, value := range l.Args[key] {
			fields = append(fields, key+"="+value)
		}
	}
	return strings.Join(fields, " ")
}
