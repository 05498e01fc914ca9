package ptargs

import "errors"

// CheckName returns an error if tor would not take a transport's name: it is a C
// identifier (pt-spec 3.1). The error does not quote it.
func CheckName(name string) error {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return errors.New("letters, digits and _ only, and no digit first")
		}
	}
	if name == "" {
		return errors.New("it is empty")
	}
	return nil
}
