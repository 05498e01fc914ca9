package main

import (
	"errors"
	"fmt"
	"strings"
)

// argument is one key and value of a pluggable transport's arguments. They travel
// in three places, each with its own separators and escapes: an SMETHOD line, a
// SOCKS authentication, and TOR_PT_SERVER_TRANSPORT_OPTIONS.
type argument struct {
	key, value string
}

// arguments keeps the order in which they were given.
type arguments []argument

// parseArguments reads key=value pairs that are separated by sep. A backslash
// takes the meaning away from the byte that follows it.
func parseArguments(s string, sep byte) (arguments, error) {
	if s == "" {
		return nil, nil
	}
	var out arguments
	var current argument
	var text strings.Builder
	hasKey := false
	end := func() error {
		if !hasKey {
			return fmt.Errorf("argument %q has no value", text.String())
		}
		if current.key == "" {
			return errors.New("an argument has no key")
		}
		current.value = text.String()
		out = append(out, current)
		current, hasKey = argument{}, false
		text.Reset()
		return nil
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i == len(s) {
				return nil, errors.New("arguments end with a backslash")
			}
			text.WriteByte(s[i])
		case c == sep:
			if err := end(); err != nil {
				return nil, err
			}
		case c == '=' && !hasKey:
			current.key, hasKey = text.String(), true
			text.Reset()
		default:
			text.WriteByte(c)
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	return out, nil
}

// with returns the arguments with others added, replacing those of the same key.
func (a arguments) with(others arguments) arguments {
	out := append(arguments(nil), a...)
	for _, o := range others {
		replaced := false
		for i := range out {
			if out[i].key == o.key {
				out[i], replaced = o, true
			}
		}
		if !replaced {
			out = append(out, o)
		}
	}
	return out
}

// socks encodes the arguments for the SOCKS authentication: pairs separated by
// semicolons, with backslash, semicolon and equals sign escaped.
func (a arguments) socks() string {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`, `=`, `\=`)
	pairs := make([]string, len(a))
	for i, p := range a {
		pairs[i] = escape.Replace(p.key) + "=" + escape.Replace(p.value)
	}
	return strings.Join(pairs, ";")
}

// serverOptions encodes the arguments for TOR_PT_SERVER_TRANSPORT_OPTIONS, where
// the transport's name comes before each pair.
func (a arguments) serverOptions(transport string) string {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`, `:`, `\:`, `=`, `\=`)
	pairs := make([]string, len(a))
	for i, p := range a {
		pairs[i] = transport + ":" + escape.Replace(p.key) + "=" + escape.Replace(p.value)
	}
	return strings.Join(pairs, ";")
}

// methodLine is what a PT said about its method.
type methodLine struct {
	addr string
	args arguments
}

// parseMethodLine reads "CMETHOD name socks5 addr" or "SMETHOD name addr
// [options]" for the given transport; ok is false for any other line.
func parseMethodLine(line, transport string) (m methodLine, ok bool, err error) {
	words := strings.Fields(line)
	if len(words) < 3 || words[1] != transport {
		return m, false, nil
	}
	switch words[0] {
	case "CMETHOD":
		if len(words) < 4 {
			return m, true, fmt.Errorf("%q lacks an address", line)
		}
		if words[2] != "socks5" {
			return m, true, fmt.Errorf("%q: only socks5 is supported", line)
		}
		m.addr = words[3]
	case "SMETHOD":
		m.addr = words[2]
		for _, option := range words[3:] {
			list, isArgs := strings.CutPrefix(option, "ARGS:")
			if !isArgs {
				continue // the specification says to ignore other options
			}
			if m.args, err = parseArguments(list, ','); err != nil {
				return m, true, fmt.Errorf("%q: %w", line, err)
			}
		}
	default:
		return m, false, nil
	}
	return m, true, nil
}
