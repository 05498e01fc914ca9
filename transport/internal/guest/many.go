package guest

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/stream"
)

// Many is an instance that serves many connections. Its methods may be called
// from anywhere.
type Many struct {
	*Instance
	// Own holds the network connections that belong to no one connection.
	Own   *Conn
	queue controlQueue
	// connects: the module gets connections that are already made.
	connects atomic.Bool
	keepOpen atomic.Int32 // milliseconds; see records.KeepOpen

	mu     sync.Mutex
	conns  map[uint32]*Conn
	lastID uint32
	ending bool  // the module has got the record End
	over   error // why it has ended; nil before
}

// ErrEnded is the error for a connection that came when the instance was at its
// end.
var ErrEnded = errors.New("the instance is at its end")

// StartMany initialises an instance of m that can serve many connections in o's
// role, once Run runs. ctx bounds that. After an error nothing is left behind.
func StartMany(ctx context.Context, m *Module, o Options) (*Many, error) {
	n := newMany(ctx, m, o)
	if err := n.bounded(ctx, n.initialise); err != nil {
		n.discard(err)
		return nil, err
	}
	return n, nil
}

func newMany(ctx context.Context, m *Module, o Options) *Many {
	in := newInstance(ctx, m, o)
	n := &Many{Instance: in, conns: map[uint32]*Conn{}}
	n.queue.handle, n.queue.patience = n.handle, o.DialTimeout
	n.queue.abort = func(why string) { in.Abort(&BrokenError{m.shape.ABI.many[o.Role].name, why}) }
	in.many, in.mode = n, stream.Posix
	n.Own = n.newConn(ConnOptions{Host: o.Host})
	n.Own.state = up
	return n
}

// Run serves connections until the instance ends, and then ends those that are
// left. It returns nil after Stop.
func (m *Many) Run() error {
	f := m.shape.ABI.many[m.o.Role]
	fd, _ := m.fds.insert(&descriptor{endpoint: stream.NewEndpoint(&m.queue, stream.Posix)})
	err := m.startWorkers()
	var r int32
	if err == nil {
		r, err = m.invoke(f, uint64(uint32(fd)))
	}
	m.queue.discard()
	m.mu.Lock()
	if err == nil && !m.ending {
		err = &BrokenError{f.name, "returned before the record End"}
		if r < 0 {
			err = m.failed(f.name, r)
		}
	}
	m.over = err
	if err == nil {
		m.over = ErrEnded
	}
	left := make([]*Conn, 0, len(m.conns))
	for _, c := range m.conns {
		left = append(left, c)
	}
	m.mu.Unlock()
	for _, c := range left {
		c.end(m.over, true)
	}
	m.Own.end(nil, true)
	return err
}

// Stop tells the module to end. It does not wait; Abort is what follows if the
// module does not end.
func (m *Many) Stop() {
	m.mu.Lock()
	m.ending = true
	m.mu.Unlock()
	m.queue.push(records.Record{Kind: records.End})
	m.queue.end()
}

// KeepOpen returns how long an incoming connection whose set-up fails is to be kept
// open from its beginning, as the module asked; 0 for not at all.
func (m *Many) KeepOpen() time.Duration { return time.Duration(m.keepOpen.Load()) * time.Millisecond }

// Load returns the number of connections.
func (m *Many) Load() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}

// newConn makes a connection that the instance does not know yet.
func (m *Many) newConn(o ConnOptions) *Conn {
	c := &Conn{many: m, o: o, setUp: make(chan error, 1), dead: make(chan struct{})}
	c.life, c.endLife = context.WithCancel(m.life)
	return c
}

// NewConn makes a connection for one call of Open or Incoming.
func (m *Many) NewConn(o ConnOptions) *Conn {
	c := m.newConn(o)
	c.near, c.app = stream.NewPipe()
	return c
}

// admit gives a connection its number.
func (m *Many) admit(c *Conn) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over != nil {
		return ErrEnded
	}
	if len(m.conns) >= m.o.Limits.Conns {
		return &LimitError{"connections of one instance", m.o.Limits.Conns}
	}
	for m.lastID++; m.lastID == 0 || m.conns[m.lastID] != nil; m.lastID++ {
	}
	c.id = m.lastID
	m.conns[c.id] = c
	return nil
}

func (m *Many) forget(c *Conn) {
	m.mu.Lock()
	delete(m.conns, c.id)
	m.mu.Unlock()
}

// conn returns a connection by its number; 0 is the instance itself, and nil
// what has ended.
func (m *Many) conn(id uint32) *Conn {
	if id == 0 {
		return m.Own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conns[id]
}

// handle carries out what the module asks for. It runs in a host call and does
// not block. Records about connections that have ended meanwhile are normal.
func (m *Many) handle(r records.Record) error {
	c := m.conn(r.ID)
	switch r.Kind {
	case records.Ready:
		if c != nil && c.Caller() != nil { // an incoming one is ready with its caller
			c.ready()
			runtime.Gosched() // who waits for it need not wait for what the module does next
		}
	case records.Fail:
		if c != nil && c != m.Own {
			c.end(c.blame(r), false)
		}
	case records.Dial:
		if c == nil {
			m.answer(records.Dialed, r, -int32(eCanceled))
			break
		}
		m.dial(c, r)
	case records.Accept:
		if c == nil || c == m.Own {
			m.answer(records.Caller, r, -int32(eCanceled))
			break
		}
		m.accept(c, r)
	case records.Connect:
		m.connects.Store(true)
	case records.KeepOpen:
		m.keepOpen.Store(max(r.Value, 0))
	default:
		return syscall.EINVAL
	}
	return nil
}

func (m *Many) answer(k records.Kind, r records.Record, value int32) {
	m.queue.push(records.Record{Kind: k, ID: r.ID, Request: r.Request, Value: value})
}

// dial connects for c in the background.
func (m *Many) dial(c *Conn, r records.Record) {
	owner, timeout := c, time.Duration(0)
	if r.Flags&records.Multiplexed != 0 {
		owner = m.Own
	}
	if owner == m.Own { // no connection's set-up bounds it
		timeout = m.o.DialTimeout
	}
	refuse := func(err error, given errno) {
		c.remember(err, given)
		m.answer(records.Dialed, r, -int32(given))
	}
	if err := owner.reserve(); err != nil {
		refuse(err, eMfile)
		return
	}
	target := string(r.Payload)
	r.Payload = nil
	go func() {
		ctx := owner.life
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		dial := c.o.Host.DialFixed
		if target != "" {
			dial = func(ctx context.Context) (net.Conn, error) {
				network, address := records.SplitTarget(target)
				return c.o.Host.Dial(ctx, network, address)
			}
		}
		conn, err := dial(ctx)
		if err != nil {
			owner.unreserve()
			refuse(err, toErrno(err))
			return
		}
		fd, err := owner.attachReserved(networkEndpoint(conn, stream.Posix), false)
		if err != nil {
			m.answer(records.Dialed, r, -int32(eCanceled))
			return
		}
		c.remember(nil, eSuccess)
		m.answer(records.Dialed, r, fd)
	}()
}

// accept gives an incoming connection its caller.
func (m *Many) accept(c *Conn, r records.Record) {
	to, deliver := c, func() {}
	muxed := r.Flags&records.Multiplexed != 0
	if muxed && c.o.OnCaller == nil || !muxed && c.Caller() != nil {
		m.answer(records.Caller, r, -int32(eInval))
		return
	}
	if muxed {
		to = m.NewConn(ConnOptions{Host: c.o.Host})
		to.state = up
		deliver = c.o.OnCaller(to)
		c.muxed.Store(true)
		if err := m.admit(to); err != nil {
			to.end(err, false)
			m.answer(records.Caller, r, -int32(eMfile))
			return
		}
	}
	fd, err := to.attach(newEndpoint(to.near), true)
	if err != nil {
		to.end(err, false)
		m.answer(records.Caller, r, -int32(eInval))
		return
	}
	m.queue.push(records.Record{Kind: records.Caller, ID: to.id, Request: r.Request, Value: fd})
	deliver()
	c.ready()
}
