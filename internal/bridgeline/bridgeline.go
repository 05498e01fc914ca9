// Package bridgeline reads and writes bridge lines, as they are in torrc.
package bridgeline

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"waterproxy/internal/ptargs"
	"waterproxy/transport"
)

// Line is a bridge line with a transport.
type Line struct {
	Transport   string
	Address     string // HOST:PORT
	Fingerprint string // "" if there is none
	Args        transport.Args
}

var fingerprint = regexp.MustCompile(`^\$?[0-9A-Fa-f]{40}$`)

// form is the end of every error: what is expected.
const form = "a bridge line is TRANSPORT ADDRESS:PORT [FINGERPRINT] [KEY=VALUE ...]"

// Parse reads [Bridge] TRANSPORT HOST:PORT [FINGERPRINT] [KEY=VALUE ...], as it was
// pasted: with quotes of any kind round all or parts of it, odd spaces and characters
// without a width. Errors quote the word at fault and not the whole line; they are for
// the user, and not for a log.
func Parse(s string) (Line, error) {
	fields, err := words(s)
	if err != nil {
		return Line{}, err
	}
	fields, _ = cutKeyword(fields)
	switch {
	case len(fields) > 0 && isAddress(fields[0]):
		return Line{}, fmt.Errorf("%s is an address, so the line names no transport: it is one of tor's own, for which tor needs no waterproxy; %s", quoted(fields[0]), form)
	case len(fields) > 0 && ptargs.CheckName(fields[0]) != nil:
		return Line{}, fmt.Errorf("%s is no transport's name; %s", quoted(fields[0]), form)
	case len(fields) < 2:
		return Line{}, errors.New(form)
	}
	l := Line{Transport: fields[0], Address: fields[1]}
	if err := CheckAddress(l.Address); err != nil {
		return Line{}, fmt.Errorf("%w; %s", err, form)
	}
	rest := fields[2:]
	if len(rest) > 0 && fingerprint.MatchString(rest[0]) {
		l.Fingerprint = strings.ToUpper(strings.TrimPrefix(rest[0], "$"))
		rest = rest[1:]
	}
	l.Args, err = parseArgs(rest)
	return l, err
}

func parseArgs(fields []string) (args transport.Args, err error) {
	for _, arg := range fields {
		key, value, ok := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(arg, "-"):
			return nil, fmt.Errorf("%s is no part of a bridge line; flags come before it", quoted(arg))
		case !ok || key == "":
			return nil, fmt.Errorf("%s is neither a fingerprint in its place (40 hexadecimal digits after the address) nor of the form KEY=VALUE; %s", quoted(arg), form)
		}
		if args == nil {
			args = transport.Args{}
		}
		args[key] = append(args[key], value)
	}
	return args, nil
}

// cutKeyword removes the keyword that a line has in torrc.
func cutKeyword(fields []string) (rest []string, found bool) {
	const keyword = "bridge"
	if len(fields) == 0 || len(fields[0]) < len(keyword) || !strings.EqualFold(fields[0][:len(keyword)], keyword) {
		return fields, false
	}
	switch first := fields[0][len(keyword):]; {
	case first == "" || first == ":":
		return fields[1:], true
	case first[0] == ':' && ptargs.CheckName(first[1:]) == nil:
		return append([]string{first[1:]}, fields[1:]...), true
	}
	return fields, false
}

// IsLine reports whether a text is meant to be a bridge line, good or bad, and not the
// name of a file.
func IsLine(s string) bool {
	fields, err := words(s)
	if err != nil {
		return true // no name has line breaks in it
	}
	fields, found := cutKeyword(fields)
	return found || slices.ContainsFunc(fields[:min(len(fields), 2)], isAddress) ||
		len(fields) > 1 && ptargs.CheckName(fields[0]) == nil && strings.Contains(strings.Join(fields[1:], " "), "=")
}

// isAddress reports whether a word is an address, with a port or not.
func isAddress(word string) bool {
	_, err := netip.ParseAddr(word)
	return err == nil || CheckAddress(word) == nil
}

// CheckAddress tells whether an address is a HOST:PORT that can be connected to.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%s is not of the form HOST:PORT, as 192.0.2.1:443 or [2001:db8::1]:443", quoted(address))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s is no port; it is a number from 1 to 65535", quoted(port))
	}
	return nil
}

// CheckListenAddress tells whether an address is a HOST:PORT that can be listened at. The
// host may be left out, which means every address of this machine, and the port may be 0,
// for a free one.
func CheckListenAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s is not of the form HOST:PORT, as 127.0.0.1:1080", quoted(address))
	}
	if n, err := net.LookupPort("tcp", port); err != nil || port == "" || n > math.MaxUint16 {
		return fmt.Errorf("%s is no port; it is a number up to 65535", quoted(port))
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
