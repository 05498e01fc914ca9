package ptproc

import (
	"errors"
	"fmt"
	"strings"

	"waterproxy/internal/ptargs"
)

// Method is what a proxy announces of a transport, in a CMETHOD or an SMETHOD line
// (pt-spec 3.3.2, 3.3.3).
type Method struct {
	Transport string
	Address   string              // where it listens
	Args      map[string][]string // what a client has to know besides; of a server
	Err       error               // its CMETHOD-ERROR or SMETHOD-ERROR line; nothing else is set then
}

// readMethod reads a line with one of the four keywords.
func readMethod(line string) (Method, error) {
	m, err := readWords(strings.Fields(line))
	if err != nil {
		return Method{}, fmt.Errorf("%q: %w", line, err)
	}
	if m.Err != nil {
		m.Err = errors.New(line)
	}
	return m, nil
}

// readWords does that with the words of a line. An error of the transport is not the
// line yet.
func readWords(words []string) (Method, error) {
	keyword, words := words[0], words[1:]
	if len(words) == 0 {
		return Method{}, errors.New("the transport's name is missing")
	}
	m := Method{Transport: words[0]}
	if err := ptargs.CheckName(m.Transport); err != nil {
		return Method{}, fmt.Errorf("the transport's name: %w", err)
	}
	switch keyword {
	case "CMETHOD-ERROR", "SMETHOD-ERROR":
		m.Err = errors.New(keyword)
		return m, nil
	case "CMETHOD":
		if len(words) != 3 || words[1] != "socks5" {
			return Method{}, errors.New("after the name come socks5 and an address")
		}
		m.Address = words[2]
		return m, nil
	}
	if len(words) < 2 {
		return Method{}, errors.New("after the name comes an address")
	}
	m.Address = words[1]
	for _, option := range words[2:] {
		text, ok := strings.CutPrefix(option, "ARGS:")
		if !ok {
			continue // pt-spec 3.3.3: other options are ignored
		}
		var err error
		if m.Args, err = ptargs.ParseSMETHOD(text); err != nil {
			return Method{}, err
		}
	}
	return m, nil
}
