// Package record stands between the two sides of a transport, where a censor stands, and
// keeps what passes.
package record

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Direction is the way of a segment.
type Direction int

// The two ways.
const (
	ToServer Direction = iota
	ToClient
)

// String returns the direction as JSON has it.
func (d Direction) String() string {
	if d == ToServer {
		return "to-server"
	}
	return "to-client"
}

// End is how one direction of a flow ends.
type End string

// The ends.
const (
	None  End = ""    // it has not ended
	FIN   End = "FIN" // an orderly end of this direction
	RST   End = "RST" // a reset, which ends both
	Error End = "error"
)

// Segment is what one read from a socket has brought: what was written at once, or more if
// it came faster than it was read.
type Segment struct {
	Direction Direction
	At        time.Duration // since the connection was accepted
	Length    int
	Data      []byte // what is kept of it: all, or nothing beyond KeptBytes of a direction
}

// Flow is one TCP connection.
type Flow struct {
	Began    time.Time
	Segments []Segment // in the order in which they were read
	Ends     [2]End    // by Direction
	EndedAt  [2]time.Duration
}

// KeptBytes is how many bytes of each direction of a flow are kept. Of what follows only the
// times and lengths are.
const KeptBytes = 256 << 10

// dialLimit bounds the connection to the server.
const dialLimit = 10 * time.Second

// Recorder accepts TCP connections, connects each to the server, and forwards at once what
// one side sends to the other: half-closes as half-closes, resets as resets.
type Recorder struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	server  string
	flows   []*Flow
	open    map[net.Conn]struct{}
	forget  bool
	closed  bool
	failure error // the first connection to the server that failed
}

// Listen begins to listen at an address on loopback. Close ends it.
func Listen(address string) (*Recorder, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the recorder cannot listen: %w", err)
	}
	r := &Recorder{listener: l, open: map[net.Conn]struct{}{}}
	r.running.Go(r.serve)
	return r, nil
}

// Address is where it listens.
func (r *Recorder) Address() string { return r.listener.Addr().String() }

// ForwardTo sets the server of the connections that come from now on.
func (r *Recorder) ForwardTo(server string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
}

// Forget has it keep nothing of connections that come from now on, and only forward.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget = true
}

// Close ends all connections, and returns when nothing runs any more. The error is the first
// of a connection to the server that could not be made.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	err := r.listener.Close()
	r.running.Wait()
	return errors.Join(err, r.failure)
}

// Flows returns copies of what has been recorded, in the order in which the connections came.
func (r *Recorder) Flows() []Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Flow, len(r.flows))
	for i, f := range r.flows {
		all[i] = *f
		all[i].Segments = slices.Clone(f.Segments)
	}
	return all
}

func (r *Recorder) serve() {
	for {
		c, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: those who wait for this one have a limit
			time.Sleep(10 * time.Millisecond)
			continue
		}
		r.running.Go(func() { r.carry(c.(*net.TCPConn)) })
	}
}

// carry takes one connection from its beginning to its end.
func (r *Recorder) carry(client *net.TCPConn) {
	f := &Flow{Began: time.Now()}
	r.mu.Lock()
	address := r.server
	if r.forget {
		f = nil
	} else {
		r.flows = append(r.flows, f)
	}
	r.mu.Unlock()
	if !r.own(client) {
		return
	}
	defer r.disown(client)
	c, err := net.DialTimeout("tcp", address, dialLimit)
	if err != nil {
		r.mu.Lock()
		if r.failure == nil {
			r.failure = fmt.Errorf("the recorder cannot connect to the server: %w", err)
		}
		r.mu.Unlock()
		return
	}
	server := c.(*net.TCPConn)
	if !r.own(server) {
		return
	}
	defer r.disown(server)
	var both sync.WaitGroup
	both.Go(func() { r.forward(f, ToServer, client, server) })
	both.Go(func() { r.forward(f, ToClient, server, client) })
	both.Wait()
}

// own has Close close a connection; false if it is too late for that.
func (r *Recorder) own(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.Close()
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *Recorder) disown(c net.Conn) {
	r.mu.Lock()
	delete(r.open, c)
	r.mu.Unlock()
	c.Close()
}

// forward takes one direction of a flow to its end. f is nil if nothing is kept.
func (r *Recorder) forward(f *Flow, d Direction, from, to *net.TCPConn) {
	buffer := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if f != nil {
				kept += r.keep(f, d, buffer[:n], kept < KeptBytes)
			}
			if _, wrote := to.Write(buffer[:n]); wrote != nil {
				// The receiver is gone. The sender learns it as it would without us, and
				// the other direction records how.
				reset(from)
				return
			}
		}
		if err == nil {
			continue
		}
		end := endOf(err)
		if f != nil {
			r.mu.Lock()
			f.Ends[d], f.EndedAt[d] = end, time.Since(f.Began)
			r.mu.Unlock()
		}
		if end == FIN {
			_ = to.CloseWrite() // it may be gone, which its own direction records
		} else {
			reset(to)
		}
		return
	}
}

// keep adds a segment to a flow, with its bytes or without, and returns how many of them.
func (r *Recorder) keep(f *Flow, d Direction, data []byte, withBytes bool) (kept int) {
	s := Segment{Direction: d, Length: len(data)}
	if withBytes {
		s.Data = slices.Clone(data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.At = time.Since(f.Began) // with the lock, so that segments are in the order of their times
	f.Segments = append(f.Segments, s)
	return len(s.Data)
}

// reset closes a connection with a RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // neither has an error unless it is closed already
	_ = c.Close()
}

// endOf tells how a direction has ended by the error of a read.
func endOf(err error) End {
	switch {
	case errors.Is(err, io.EOF):
		return FIN
	case errors.Is(err, syscall.ECONNRESET):
		return RST
	}
	return Error
}
