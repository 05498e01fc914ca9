package guest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/stream"
)

// ConnOptions is what a connection of a [Many] begins with.
type ConnOptions struct {
	Host   Host   // dials for it
	Target string // what DialFixed dials, for the module to know
	Args   string
	// End is called once when the connection, after it was set up, is over for
	// the module; nil is a clean end. It must not block.
	End func(error)
	// OnCaller is called for each caller's connection that comes over this one, if
	// it is multiplexed, before anything can happen to the new one, and sets that
	// one's End. What it returns is called once the connection can be used.
	// Neither may block. Nil: this one cannot be multiplexed.
	OnCaller func(*Conn) (deliver func())
}

// Conn is one connection of a [Many].
type Conn struct {
	many *Many
	id   uint32
	o    ConnOptions
	near stream.Stream    // the module's end of the caller's pipe
	app  *stream.PipeConn // the Go caller's end

	life    context.Context // ends with the connection; bounds what is dialed for it
	endLife context.CancelFunc
	dead    chan struct{} // closed with life
	setUp   chan error    // gets the result of the set-up
	muxed   atomic.Bool   // callers' connections come over it

	mu        sync.Mutex
	state     connState
	caller    *stream.Endpoint
	peer      *stream.Endpoint   // what Incoming has got
	endpoints []*stream.Endpoint // the caller's and the network's
	closed    []*stream.Endpoint // those of endpoints that the module has closed
	draining  []*stream.Endpoint // those of endpoints that are no longer in closed
	open      int                // descriptors that the module has, and dials under way
	hostErr   error              // why the last dial failed; nil if it did not
	given     errno              // what the module got for that
	past      ConnStats          // of endpoints that are gone
}

type connState uint8

const (
	settingUp connState = iota
	up
	over
)

// ConnStats are bytes that a module has moved for a connection.
type ConnStats struct{ FromCaller, ToCaller, FromNetwork, ToNetwork int64 }

func (c *ConnStats) add(p *stream.Endpoint, isCaller bool) {
	in, out := p.Counts()
	if isCaller {
		c.FromCaller += in
		c.ToCaller += out
	} else {
		c.FromNetwork += in
		c.ToNetwork += out
	}
}

func newEndpoint(s stream.Stream) *stream.Endpoint { return stream.NewEndpoint(s, stream.Posix) }

// networkEndpoint is one over a network connection.
func networkEndpoint(conn net.Conn, m stream.Mode) *stream.Endpoint {
	p := stream.NewEndpoint(stream.Open(conn), m)
	p.SuspectEnd()
	return p
}

// Open hands an outgoing connection to the module and waits until it is ready.
// After an error nothing is left of it.
func (c *Conn) Open(ctx context.Context) error {
	payload := records.OpenPayload(c.o.Target, c.o.Args)
	if len(c.o.Target)+len(c.o.Args) > records.MaxOpen {
		c.endLife()
		return &LimitError{"bytes of arguments", records.MaxOpen}
	}
	return c.begin(ctx, func() (r records.Record, err error) {
		r = records.Record{Kind: records.Open, Payload: payload}
		if c.many.connects.Load() && c.o.Target != "" {
			dialing, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(c.life, cancel)() // the instance may end meanwhile
			conn, err := c.o.Host.DialFixed(dialing)
			if err != nil {
				return r, err
			}
			fd, err := c.attach(networkEndpoint(conn, stream.Posix), false)
			if err != nil {
				return r, err
			}
			r.Request = uint32(fd)
		}
		r.Value, err = c.attach(newEndpoint(c.near), true)
		return r, err
	})
}

// NewPeer returns what Incoming takes for a connection that the host has accepted.
func NewPeer(conn net.Conn) *stream.Endpoint { return networkEndpoint(conn, stream.Posix) }

// Incoming hands peer to the module and waits until its set-up has succeeded. After an
// error the module has nothing of it any more. kept: the set-up failed for another
// reason than a decision of the module, so peer is open, and the caller's to close or,
// after ErrEnded, to hand to another instance.
func (c *Conn) Incoming(ctx context.Context, peer *stream.Endpoint) (kept bool, err error) {
	c.peer = peer
	err = c.begin(ctx, func() (r records.Record, err error) {
		fd, err := c.attach(peer, false)
		return records.Record{Kind: records.Incoming, Value: fd}, err
	})
	if err != nil && !decided(err) {
		return true, err
	}
	if err != nil {
		_ = peer.Close() // it has carried nothing
	}
	return false, err
}

// decided reports whether a set-up failed because the module wanted that.
func decided(err error) bool {
	return errors.Is(err, errClosedEarly) || errors.As(err, new(*FailError))
}

// begin announces the connection with the record that prepare makes, and waits for
// the result of its set-up.
func (c *Conn) begin(ctx context.Context, prepare func() (records.Record, error)) error {
	if err := c.many.admit(c); err != nil {
		c.endLife()
		return err
	}
	r, err := prepare()
	if err == nil {
		r.ID = c.id
		c.many.queue.push(r)
	} else {
		c.end(err, false)
	}
	select {
	case err := <-c.setUp:
		return err
	case <-ctx.Done():
		c.abortSetUp(context.Cause(ctx))
		return <-c.setUp // it may have been ready at the last moment
	}
}

// ready ends the set-up successfully.
func (c *Conn) ready() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == settingUp {
		c.state = up
		c.setUp <- nil
	}
}

// abortSetUp ends the connection if it is not up yet.
func (c *Conn) abortSetUp(cause error) {
	c.mu.Lock()
	if c.state == settingUp {
		c.endLocked(cause, true)
		return
	}
	c.mu.Unlock()
}

// end ends the connection for the host. tell: the module does not know yet.
func (c *Conn) end(cause error, tell bool) {
	c.mu.Lock()
	c.endLocked(cause, tell)
}

var errClosedEarly = errors.New("the module closed the connection before it was ready")

// endLocked is end with the lock held, which it releases.
func (c *Conn) endLocked(cause error, tell bool) {
	was := c.state
	c.state = over
	endpoints := c.endpoints
	c.mu.Unlock()
	if was == over {
		return
	}
	c.many.forget(c)
	close(c.dead)
	c.endLife()
	if tell {
		c.many.queue.push(records.Record{Kind: records.Abort, ID: c.id})
	}
	if was == up {
		c.o.End(cause)
		return
	}
	for _, p := range endpoints {
		c.abandon(p)
	}
	if cause == nil {
		cause = errClosedEarly
	}
	c.setUp <- cause
}

// blame returns why the module gave the connection up: what the host knows, if that
// is what the module got, or else the module's words.
func (c *Conn) blame(r records.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hostErr != nil && int32(c.given) == r.Value {
		return c.hostErr
	}
	return &FailError{r.Value, oneLine(string(r.Payload))}
}

// remember notes why a dial failed, and what the module gets for that.
func (c *Conn) remember(err error, given errno) {
	c.mu.Lock()
	c.hostErr, c.given = err, given
	c.mu.Unlock()
}

// reserve makes room for one more descriptor.
func (c *Conn) reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == over {
		return ErrEnded
	}
	c.drainClosed()
	if limit := c.many.o.Limits.Descriptors; c.open+len(c.closed)+len(c.draining) >= limit {
		return &LimitError{"open descriptors of one connection", limit}
	}
	c.open++
	return nil
}

// unreserve gives the room back. It may have been the last that kept the
// connection up.
func (c *Conn) unreserve() {
	c.mu.Lock()
	c.open--
	if c.open == 0 && c != c.many.Own {
		c.endLocked(nil, false)
		return
	}
	c.mu.Unlock()
}

// attach gives the module a descriptor for p, which belongs to the connection.
func (c *Conn) attach(p *stream.Endpoint, isCaller bool) (int32, error) {
	if err := c.reserve(); err != nil {
		c.abandon(p)
		return 0, err
	}
	return c.attachReserved(p, isCaller)
}

// abandon closes an endpoint of a connection that was never up, unless Incoming decides
// about it.
func (c *Conn) abandon(p *stream.Endpoint) {
	if p != c.peer {
		_ = p.Close() // it has carried nothing
	}
}

func (c *Conn) attachReserved(p *stream.Endpoint, isCaller bool) (fd int32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == over {
		c.open--
		c.abandon(p)
		return 0, ErrEnded
	}
	p.WatchIn(c.many.poller)
	fd = c.many.fds.insertOwned(func(fd int32) *descriptor {
		d := &descriptor{endpoint: p, owner: c, watch: newWatch(&c.many.queue, fd)}
		d.nonblock.Store(true)
		return d
	})
	if isCaller {
		c.caller = p
	}
	c.endpoints = append(c.endpoints, p)
	return fd, nil
}

// released notes that the module has closed an endpoint. What it wrote still leaves.
// With the last one the connection ends. If it has ended before, its endpoints are not
// touched: the user has to learn why before it sees the end of the stream.
func (c *Conn) released(p *stream.Endpoint) {
	c.mu.Lock()
	c.open--
	if c.state == over {
		c.mu.Unlock()
		return
	}
	_ = p.CloseRead()
	_ = p.CloseWrite() // an error shows when it is drained
	c.closed = append(c.closed, p)
	switch own := c == c.many.Own; {
	case own:
		c.drainClosed()
		c.mu.Unlock()
	case c.open == 0:
		c.endLocked(nil, false)
	default:
		c.mu.Unlock()
	}
}

// drainClosed drains and forgets the endpoints that the module has closed. Those that
// have nothing to drain are gone when it returns: they must not count any longer. The
// lock is held.
func (c *Conn) drainClosed() {
	for _, p := range c.closed {
		if p != c.caller { // that one is needed for the end
			c.draining = append(c.draining, p)
			go c.drain(p)
		}
	}
	c.closed = slices.DeleteFunc(c.closed, func(p *stream.Endpoint) bool { return p != c.caller })
	for _, p := range slices.Clone(c.draining) {
		if p.Drained() {
			c.forget(p)
		}
	}
}

// drain drains and forgets an endpoint, unless the connection ends before: then the
// endpoint is drained with the others.
func (c *Conn) drain(p *stream.Endpoint) {
	p.Drain(c.many.o.Drain, c.dead)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != over {
		c.forget(p)
	}
}

// forget closes an endpoint that has been drained. The lock is held.
func (c *Conn) forget(p *stream.Endpoint) {
	i := slices.Index(c.draining, p)
	if i < 0 {
		return
	}
	c.draining = slices.Delete(c.draining, i, i+1)
	_ = p.Close() // the error is of no use
	c.past.add(p, false)
	c.endpoints = slices.DeleteFunc(c.endpoints, func(q *stream.Endpoint) bool { return p == q })
}

// SetEnd sets what is called at the end, before anything can have happened.
func (c *Conn) SetEnd(f func(error)) { c.o.End = f }

// Caller returns the endpoint on the Go caller's side; nil if there is none.
func (c *Conn) Caller() *stream.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caller
}

// App returns the Go caller's end of the connection.
func (c *Conn) App() *stream.PipeConn { return c.app }

// Multiplexed reports whether callers' connections come over this one, which then has
// no caller itself.
func (c *Conn) Multiplexed() bool { return c.muxed.Load() }

// Endpoints returns the caller's and the network's endpoints. They outlive the
// connection, so that what the module wrote can still leave; the user closes
// them after End.
func (c *Conn) Endpoints() []*stream.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.endpoints)
}

// Stats returns what the connection has moved.
func (c *Conn) Stats() ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.past
	for _, p := range c.endpoints {
		n.add(p, p == c.caller)
	}
	return n
}

// Close asks the module to end the connection once what the caller wrote has
// reached the network. It does not wait; Abort is what follows if it does not end.
func (c *Conn) Close() {
	c.many.queue.push(records.Record{Kind: records.Close, ID: c.id})
}

// Abort ends the connection at once.
func (c *Conn) Abort(cause error) {
	if cause == nil {
		cause = ErrAborted
	}
	c.end(cause, true)
}

// Release does nothing: the module closes its descriptors.
func (c *Conn) Release() {}
