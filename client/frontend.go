package client

import (
	"net"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Frontend is how applications ask for connections: [Tor], [SOCKS] or [Forward].
type Frontend interface {
	// request reads what an application asks for from its connection, which it leaves
	// open. An error is about the request.
	request(raw net.Conn) (request, error)
	// report makes known how a dial for a transport has ended.
	report(transport string, err error)
}

// request is what an application asks for.
type request struct {
	target string
	args   transport.Args
	answer answer
}

// answer answers a request.
type answer interface {
	Grant(*net.TCPAddr) error
	RejectReason(byte) error
}

// Tor is for tor, whose SOCKS5 requests name the target, with the arguments of the bridge
// line in the place of user name and password (pt-spec 3.5).
type Tor struct{}

func (Tor) request(raw net.Conn) (request, error) {
	conn, err := awaitSOCKS(raw)
	if err != nil {
		return request{}, err
	}
	// goptlib negotiates inside AcceptSocks; a listener of one connection keeps
	// a client that stalls there from delaying the others.
	r, err := pt.NewSocksListener(&single{conn: conn}).AcceptSocks()
	if err != nil {
		return request{}, conn.whyNoRequest()
	}
	return request{r.Req.Target, transport.Args(r.Req.Args), r}, nil
}

func (Tor) report(name string, err error) { ptlog.ReportConnect(name, transport.Scrub(err)) }

// Bridge is where every connection of an application other than tor goes.
type Bridge struct {
	Address string
	Args    transport.Args
}

// SOCKS is for applications that speak SOCKS5. What they ask for does not matter: the
// bridge decides where it passes on connections.
type SOCKS struct{ Bridge Bridge }

func (s SOCKS) request(raw net.Conn) (request, error) {
	conn, err := awaitSOCKS(raw)
	if err != nil {
		return request{}, err
	}
	r, err := readSOCKS(conn)
	if err != nil {
		return request{}, conn.whyNoRequest()
	}
	return request{s.Bridge.Address, s.Bridge.Args, r}, nil
}

func (SOCKS) report(string, error) {}

// Forward is for applications that ask for nothing: all they send goes to the bridge.
type Forward struct{ Bridge Bridge }

func (f Forward) request(net.Conn) (request, error) {
	return request{f.Bridge.Address, f.Bridge.Args, noAnswer{}}, nil
}

func (Forward) report(string, error) {}

// noAnswer is for an application that has not asked: it sees the end of its connection.
type noAnswer struct{}

func (noAnswer) Grant(*net.TCPAddr) error { return nil }
func (noAnswer) RejectReason(byte) error  { return nil }

// single is a listener that accepts one connection.
type single struct{ conn net.Conn }

func (s *single) Accept() (net.Conn, error) {
	conn := s.conn
	s.conn = nil
	if conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }
