package ptargs

import "errors"

// maxCredential is how long a user name or a password is at most (RFC 1929).
const maxCredential = 255

// Credentials returns the user name and password in which tor gives a connection's
// arguments to a SOCKS5 proxy: the password takes what the name cannot, or else one NUL.
// Both are empty without arguments, and then tor offers none (pt-spec 3.5).
func Credentials(args map[string][]string) (user, password string, err error) {
	switch text := Format(args); {
	case text == "":
		return "", "", nil
	case len(text) <= maxCredential:
		return text, "\x00", nil
	case len(text) <= 2*maxCredential:
		return text[:maxCredential], text[maxCredential:], nil
	}
	return "", "", errors.New("the arguments are longer than SOCKS5 has room for, which is 510 bytes")
}
