package control

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// FormatArgs writes arguments as a bridge line has them: KEY=VALUE, separated by
// semicolons, with a backslash before each semicolon, equals sign in a key, and
// backslash (pt-spec 3.5). Keys are sorted; the values of one key keep their
// order.
func FormatArgs(args map[string][]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(args)) {
		for _, value := range args[key] {
			if b.Len() > 0 {
				b.WriteByte(';')
			}
			escape(&b, key, `\;=`)
			b.WriteByte('=')
			escape(&b, value, `\;`)
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

// ParseArgs reads what FormatArgs writes, and more generally arguments of
// pt-spec 3.5, in which any byte may be escaped.
func ParseArgs(s string) (map[string][]string, error) {
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
		case c == ';':
			if err := add(); err != nil {
				return nil, err
			}
		default:
			text = append(text, c)
		}
	}
	return args, add()
}
