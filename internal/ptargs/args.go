// Package ptargs reads and writes arguments of pluggable transports in their three
// encodings, and checks names of transports (pt-spec). It is a part of modules too, so
// it is small and needs little.
package ptargs

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// Format writes arguments as a bridge line has them, without spaces between: KEY=VALUE,
// separated by semicolons, with a backslash before each semicolon, equals sign in a key,
// and backslash (pt-spec 3.5). Keys are sorted; the values of one key keep their order.
func Format(args map[string][]string) string { return format(args, "", `\;=`, `\;`) }

// FormatOptions writes a server's arguments as TOR_PT_SERVER_TRANSPORT_OPTIONS has them:
// like Format, with the transport's name and a colon before each (pt-spec 3.2.3).
func FormatOptions(transport string, args map[string][]string) string {
	return format(args, transport+":", `\;:=`, `\;:`)
}

func format(args map[string][]string, prefix, inKey, inValue string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(args)) {
		for _, value := range args[key] {
			if b.Len() > 0 {
				b.WriteByte(';')
			}
			b.WriteString(prefix)
			escape(&b, key, inKey)
			b.WriteByte('=')
			escape(&b, value, inValue)
		}
	}
	return b.String()
}

func escape(b *strings.Builder, s, special string) {
	for i := range len(s) {
		if strings.IndexByte(special, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
}

// Parse reads what Format writes, and more generally arguments of pt-spec 3.5, in which
// any byte may be escaped.
func Parse(s string) (map[string][]string, error) { return parse(s, ';') }

// ParseSMETHOD reads the arguments of an SMETHOD line, without the word ARGS and its
// colon: they are separated by commas (pt-spec 3.3.3).
func ParseSMETHOD(s string) (map[string][]string, error) { return parse(s, ',') }

func parse(s string, separator byte) (map[string][]string, error) {
	args := map[string][]string{}
	if s == "" {
		return args, nil
	}
	var key, text []byte
	haveKey := false
	add := func() error {
		if !haveKey {
			return errors.New("an argument has no =")
		}
		if len(key) == 0 {
			return errors.New("an argument has no name")
		}
		args[string(key)] = append(args[string(key)], string(text))
		key, text, haveKey = nil, nil, false
		return nil
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i == len(s) {
				return nil, errors.New("the arguments end in a backslash")
			}
			text = append(text, s[i])
		case c == '=' && !haveKey:
			key, text, haveKey = text, nil, true
		case c == separator:
			if err := add(); err != nil {
				return nil, err
			}
		default:
			text = append(text, c)
		}
	}
	return args, add()
}
