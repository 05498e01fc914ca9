package command

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/transport"
)

func TestExplain(t *testing.T) {
	tcp := func(err error) *sight {
		return &sight{dialed: true, err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	late := &transport.Error{Op: "set up client", Layer: transport.ErrNetwork, Err: context.DeadlineExceeded}
	given := &transport.Error{Op: "set up client", Layer: transport.ErrModule, Err: errors.New("the module says: no")}
	for _, test := range []struct {
		seen *sight
		err  error
		want string
	}{
		{&sight{}, given, "failed before it connected"},
		{&sight{}, &transport.Error{Op: "look up", Layer: transport.ErrNetwork, Err: &net.DNSError{Name: "a.example", IsNotFound: true}}, "cannot resolve a.example: there is no such name"},
		{&sight{dialed: true, address: "192.0.2.7:9", connected: true}, given, "connected to 192.0.2.7:9, but"},
		{tcp(&net.DNSError{Name: "a.example", IsNotFound: true}), given, "cannot resolve a.example: there is no such name"},
		{tcp(&net.DNSError{Name: "a.example", IsTimeout: true}), given, "cannot resolve a.example: the name server"},
		{tcp(syscall.ECONNREFUSED), given, "refuses the connection"},
		{tcp(syscall.ENETUNREACH), given, "no route"},
		{tcp(syscall.EHOSTUNREACH), given, "no route"},
		{tcp(syscall.EACCES), given, "does not let the connection"},
		{tcp(syscall.ETIMEDOUT), given, "not even at the level of TCP"},
		{&sight{dialed: true}, late, "not even at the level of TCP"}, // it has not come back yet
		{tcp(syscall.EMFILE), given, "cannot connect to"},
		{&sight{dialed: true, connected: true}, late, "was not answered within 30s"},
		{&sight{dialed: true, connected: true, received: 7}, late, "7 bytes came, but the handshake was not complete"},
		{&sight{dialed: true, connected: true, ended: io.EOF}, late, "closed the connection during the handshake"},
		{&sight{dialed: true, connected: true, received: 7, ended: syscall.ECONNRESET}, given, "after 7 bytes"},
		{&sight{dialed: true, connected: true, received: 7}, given, "the handshake failed: set up client: the module says: no"},
		{&sight{dialed: true, connected: true}, &transport.Error{Layer: transport.ErrTrap, Err: errors.New("x")}, "this side failed"},
	} {
		if got := test.seen.explain(test.err, 30*time.Second); !strings.Contains(got, test.want) {
			t.Errorf("%+v, %v: %q, want %q", test.seen, test.err, got, test.want)
		}
	}
}

func TestProof(t *testing.T) {
	for _, test := range []struct {
		seen    *sight
		name    string
		builtIn bool
		want    string
	}{
		{&sight{connected: true, received: 100}, "obfs4", true, "with the key"},
		{&sight{connected: true, received: 100}, "obfs4", false, "content with the 100 bytes"},
		{&sight{connected: true, received: 100}, "plain", true, "proves only"},
		{&sight{connected: true}, "t", false, "proves only"},
		{&sight{}, "t", false, "proves nothing"},
	} {
		if got := test.seen.proof(test.name, test.builtIn); !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", &test, got, test.want)
		}
	}
}
