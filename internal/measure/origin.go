package measure

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// greetLimit bounds how long an accepted connection may take to say which link
// it belongs to.
const greetLimit = 30 * time.Second

// ready is the byte with which the origin answers a connection's ticket.
const ready = 0x06

// ticketSize is the length of what a link's near end sends first.
const ticketSize = 8

// Origin is the far end of every measured path. It stands where tor's ORPort
// stands: the last hop of a path connects to it, and it hands the accepted
// connection to whoever opened the near end.
type Origin struct {
	listener net.Listener

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan net.Conn
	closed  bool
}

// NewOrigin listens on a loopback port chosen by the system.
func NewOrigin() (*Origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("origin: %w", err)
	}
	o := &Origin{listener: l, waiting: make(map[uint64]chan net.Conn)}
	go o.serve()
	return o, nil
}

// Addr is the address to which the last hop of a path must connect.
func (o *Origin) Addr() string { return o.listener.Addr().String() }

// Close stops accepting. Links that are already open stay open.
func (o *Origin) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	return o.listener.Close()
}

func (o *Origin) serve() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			o.mu.Lock()
			closed := o.closed
			o.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely. The opener's own time limit
			// reports it; accepting must go on for the tests that follow.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go o.greet(c)
	}
}

// greet reads the ticket of a new connection, answers it and hands it over. A
// connection without a known ticket is dropped: its opener has given up.
func (o *Origin) greet(c net.Conn) {
	var ticket [ticketSize]byte
	if err := c.SetDeadline(time.Now().Add(greetLimit)); err != nil {
		c.Close()
		return
	}
	if _, err := io.ReadFull(c, ticket[:]); err != nil {
		c.Close()
		return
	}
	o.mu.Lock()
	taker, known := o.waiting[binary.BigEndian.Uint64(ticket[:])]
	delete(o.waiting, binary.BigEndian.Uint64(ticket[:]))
	o.mu.Unlock()
	if !known {
		c.Close()
		return
	}
	if _, err := c.Write([]byte{ready}); err != nil {
		c.Close()
		return
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		c.Close()
		return
	}
	taker <- c
}

// expect registers a ticket. The channel has room for the one connection that
// can come.
func (o *Origin) expect() (ticket uint64, arrived chan net.Conn) {
	arrived = make(chan net.Conn, 1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	o.waiting[o.next] = arrived
	return o.next, arrived
}

// forget withdraws a ticket and closes a connection that came for it all the same.
func (o *Origin) forget(ticket uint64, arrived chan net.Conn) {
	o.mu.Lock()
	_, unused := o.waiting[ticket]
	delete(o.waiting, ticket)
	o.mu.Unlock()
	if unused {
		return
	}
	go func() {
		select {
		case c := <-arrived:
			c.Close()
		case <-time.After(greetLimit):
		}
	}()
}

// Path is one way to the origin, with the processes that are on it.
type Path struct {
	// Dial opens a connection whose far end arrives at Origin.
	Dial func(ctx context.Context) (net.Conn, error)
	// Origin receives the far ends.
	Origin *Origin
	// Client and Server are the processes to account, nil where there is none.
	Client, Server *Process
	// KeepsOpen says that the close of one end does not reach the other: both are closed.
	KeepsOpen bool
	// Timeout limits the opening of one connection.
	Timeout time.Duration
}

// Link is one connection over a path, seen from both of its ends.
type Link struct {
	Near net.Conn // what Path.Dial returned
	Far  net.Conn // what the origin accepted for it
	// Dialed is how long Dial took.
	Dialed time.Duration
	// Setup is the time from the call of Dial to the arrival of the first byte
	// that came from the far end.
	Setup time.Duration
}

// Abort closes both ends without waiting for either.
func (l *Link) Abort() {
	go l.Near.Close()
	go l.Far.Close()
}

// CloseNear closes the near end and waits for that, but not for ever: a Close
// under test may block.
func (l *Link) CloseNear(ctx context.Context) error {
	_, err := within(ctx, hangupLimit, l.Abort, func() (struct{}, error) {
		return struct{}{}, l.Near.Close()
	})
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// Open dials, sends the ticket, and waits until the far end has answered it and
// has been handed over: the link is then usable in both directions.
func (p *Path) Open(ctx context.Context) (*Link, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	ticket, arrived := p.Origin.expect()
	dialed := make(chan net.Conn, 1)
	abort := func() {
		select {
		case c := <-dialed:
			c.Close()
		default: // Dial has not returned; see below for when it does
		}
	}
	link, err := within(ctx, p.Timeout, abort, func() (*Link, error) {
		begin := time.Now()
		near, err := p.Dial(ctx)
		if err != nil {
			return nil, err
		}
		took := time.Since(begin)
		dialed <- near
		if err := ctx.Err(); err != nil { // too late: nobody waits any more
			near.Close()
			return nil, err
		}
		var hello [ticketSize]byte
		binary.BigEndian.PutUint64(hello[:], ticket)
		if _, err := near.Write(hello[:]); err != nil {
			near.Close()
			return nil, fmt.Errorf("first bytes: %w", err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(near, answer[:]); err != nil {
			near.Close()
			return nil, fmt.Errorf("first byte of the answer: %w", err)
		}
		setup := time.Since(begin)
		if answer[0] != ready {
			near.Close()
			return nil, fmt.Errorf("first byte of the answer is %#02x, want %#02x", answer[0], ready)
		}
		select {
		case far := <-arrived:
			return &Link{Near: near, Far: far, Dialed: took, Setup: setup}, nil
		case <-ctx.Done():
			near.Close()
			return nil, ctx.Err()
		}
	})
	if err != nil {
		if link != nil {
			link.Abort()
		}
		p.Origin.forget(ticket, arrived)
		return nil, fmt.Errorf("open: %w", err)
	}
	return link, nil
}

// OpenAll opens n links one after the other. On an error it returns those that
// are open.
func (p *Path) OpenAll(ctx context.Context, n int) ([]*Link, error) {
	links := make([]*Link, 0, n)
	for range n {
		l, err := p.Open(ctx)
		if err != nil {
			return links, fmt.Errorf("connection %d of %d: %w", len(links)+1, n, err)
		}
		links = append(links, l)
	}
	return links, nil
}

// direct is a path of plain TCP to the same origin.
func (p *Path) direct() *Path {
	return &Path{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", p.Origin.Addr())
		},
		Origin:  p.Origin,
		Timeout: p.Timeout,
	}
}

func abortAll(links []*Link) {
	for _, l := range links {
		l.Abort()
	}
}
