package ptproc

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Negotiation reads what a proxy writes to its standard output, from VERSION to
// CMETHODS DONE or SMETHODS DONE (pt-spec 3.3). It is an io.Writer, for one goroutine;
// what comes later is ignored. Everything else may be called from anywhere.
type Negotiation struct {
	lines     *Lines
	done      chan struct{}
	versioned bool

	// Valid once done is closed.
	methods []Method
	err     error
	at      time.Time
}

// NewNegotiation returns one that has read nothing.
func NewNegotiation() *Negotiation {
	n := &Negotiation{done: make(chan struct{})}
	n.lines = &Lines{Keep: 1, each: n.line}
	return n
}

// Write takes a piece of standard output. It returns no error.
func (n *Negotiation) Write(p []byte) (int, error) { return n.lines.Write(p) }

// Done is closed when the negotiation has ended.
func (n *Negotiation) Done() <-chan struct{} { return n.done }

// Methods returns what the proxy has announced, in its order, once Done is closed, and
// when it ended the negotiation. The error is a line of the proxy that concerns all
// transports, or a violation of the specification.
func (n *Negotiation) Methods() (methods []Method, at time.Time, err error) {
	<-n.done
	return n.methods, n.at, n.err
}

// Find returns one of some methods. It is an error if the transport is not among them,
// or could not be started.
func Find(methods []Method, transport string) (Method, error) {
	for _, m := range methods {
		if m.Transport == transport {
			return m, m.Err
		}
	}
	return Method{}, fmt.Errorf("it does not offer the transport %q", transport)
}

// line takes the next line.
func (n *Negotiation) line(line string) {
	if !n.at.IsZero() {
		return
	}
	keyword, rest, _ := strings.Cut(line, " ")
	switch keyword {
	case "VERSION":
		n.versioned = rest == "1"
	case "VERSION-ERROR", "ENV-ERROR", "PROXY-ERROR":
		n.end(errors.New(line))
	case "CMETHOD", "SMETHOD", "CMETHOD-ERROR", "SMETHOD-ERROR":
		m, err := readMethod(line)
		if err != nil {
			n.end(err)
			return
		}
		n.methods = append(n.methods, m)
	case "CMETHODS", "SMETHODS":
		switch {
		case rest != "DONE":
			n.end(fmt.Errorf("%q: DONE is missing", line))
		case !n.versioned:
			n.end(errors.New("it does not speak version 1 of the protocol"))
		default:
			n.end(nil)
		}
	}
}

func (n *Negotiation) end(err error) {
	n.at, n.err = time.Now(), err
	close(n.done)
}
