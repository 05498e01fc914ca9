package demo

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/proxy"
)

// arguments are what a client has to know of a bridge besides its address, in
// the order in which the bridge names them.
type arguments []argument

type argument struct{ key, value string }

// parseArguments understands the ARGS of an SMETHOD line: pairs separated by
// commas, with a backslash before a comma, an equals sign or a backslash that
// is meant literally.
func parseArguments(encoded string) (arguments, error) {
	var args arguments
	for encoded != "" {
		key, rest, end, err := unescape(encoded, "=,")
		if err != nil {
			return nil, err
		}
		if end != '=' || key == "" {
			return nil, fmt.Errorf("no key and value in %q", encoded)
		}
		value, rest, end, err := unescape(rest, ",")
		if err != nil {
			return nil, err
		}
		if end == ',' && rest == "" {
			return nil, errors.New("a comma at the end")
		}
		args = append(args, argument{key, value})
		encoded = rest
	}
	return args, nil
}

// unescape reads up to one of the ends, which it returns, 0 standing for the end
// of the text, with what follows it.
func unescape(text, ends string) (word, rest string, end byte, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
			if i == len(text) {
				return "", "", 0, errors.New("a backslash at the end")
			}
			b.WriteByte(text[i])
		case strings.IndexByte(ends, c) >= 0:
			return b.String(), text[i+1:], c, nil
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", 0, nil
}

// socks returns the arguments the way tor hands them to the client's end: pairs
// separated by semicolons.
func (a arguments) socks() string {
	keys := strings.NewReplacer(`\`, `\\`, `;`, `\;`, `=`, `\=`)
	values := strings.NewReplacer(`\`, `\\`, `;`, `\;`)
	pairs := make([]string, len(a))
	for i, arg := range a {
		pairs[i] = keys.Replace(arg.key) + "=" + values.Replace(arg.value)
	}
	return strings.Join(pairs, ";")
}

// maxCredential is how long a user name and a password of SOCKS5 may be.
const maxCredential = 255

// credentials returns the arguments as tor puts them into a SOCKS5 user name and
// password: the password takes what the name cannot, or else one NUL. Without
// arguments there are no credentials.
func (a arguments) credentials() (*proxy.Auth, error) {
	text := a.socks()
	switch {
	case text == "":
		return nil, nil
	case len(text) <= maxCredential:
		return &proxy.Auth{User: text, Password: "\x00"}, nil
	case len(text) <= 2*maxCredential:
		return &proxy.Auth{User: text[:maxCredential], Password: text[maxCredential:]}, nil
	default:
		return nil, fmt.Errorf("the bridge's arguments take %d bytes, and SOCKS5 has room for %d", len(text), 2*maxCredential)
	}
}
