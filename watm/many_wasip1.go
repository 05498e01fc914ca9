package watm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"sync"
	"syscall"

	"waterproxy/internal/records"
)

// An instance that carries many connections: see docs/abi.md.

//go:wasmexport watm_dial_many_v1
func dialMany(fd int32) int32 { return runMany(fd, false) }

//go:wasmexport watm_dial_fixed_many_v1
func dialFixedMany(fd int32) int32 { return runMany(fd, false) }

//go:wasmexport watm_accept_many_v1
func acceptMany(fd int32) int32 { return runMany(fd, true) }

// instance is the state of an instance that carries many connections.
type instance struct {
	fd      int32 // of the control descriptor
	writing sync.Mutex

	mu       sync.Mutex
	conns    map[int32]*eventConn            // by descriptor
	tasks    map[uint32]*task                // by connection
	requests map[uint32]func(records.Record) // those that the host has not answered
	last     uint32                          // request
}

// task is the module's work for one connection.
type task struct {
	id     uint32
	cancel context.CancelFunc

	mu     sync.Mutex
	own    []*eventConn // closed with the task
	join   *join        // nil until it is set up
	closed bool         // the caller reads no more
	over   bool
}

func runMany(fd int32, server bool) int32 {
	if r := start(server); r < 0 {
		return r
	}
	tuneCollector()
	in := &instance{
		fd: fd, conns: map[int32]*eventConn{}, tasks: map[uint32]*task{},
		requests: map[uint32]func(records.Record){},
	}
	descriptor, err := fileConn(fd)
	if err != nil {
		return fail(err)
	}
	if _, dials := transport.(Dialer); !dials && !server {
		in.send(records.Record{Kind: records.Connect})
	}
	if keepOpen > 0 {
		in.send(records.Record{Kind: records.KeepOpen, Value: int32(min(keepOpen.Milliseconds(), math.MaxInt32))})
	}
	raw, err := descriptor.(syscall.Conn).SyscallConn()
	if err != nil {
		return fail(err)
	}
	buf := make([]byte, 4*records.MaxRecord)
	for {
		n, err := waitAndRead(raw, buf)
		for rest := buf[:n]; len(rest) > 0; {
			var r records.Record
			var perr error
			if r, rest, perr = records.Parse(rest); perr != nil {
				return fail(perr)
			}
			if r.Kind == records.End {
				return 0
			}
			in.handle(r)
		}
		if err == io.EOF {
			return 0
		}
		if err != nil {
			return fail(err)
		}
	}
}

// waitAndRead reads once there is something. It does not try before it waits, since
// that would mostly be in vain.
func waitAndRead(raw syscall.RawConn, buf []byte) (n int, err error) {
	tried := false
	werr := raw.Read(func(fd uintptr) bool {
		if !tried {
			tried = true
			return false
		}
		n, err = syscall.Read(int(fd), buf)
		return err != syscall.EAGAIN
	})
	if werr != nil {
		return 0, werr
	}
	return max(n, 0), readError(n, err)
}

func (in *instance) handle(r records.Record) {
	switch r.Kind {
	case records.Readable, records.Writable:
		in.mu.Lock()
		c := in.conns[r.Value]
		in.mu.Unlock()
		switch {
		case c == nil: // it has been closed
		case r.Kind == records.Readable:
			c.in.signal()
		default:
			c.out.signal()
		}
	case records.Open:
		target, args := records.SplitOpenPayload(r.Payload)
		t, ctx := in.begin(r.ID)
		caller := in.adopt(t, r.Value)
		var conn *eventConn // to the target, if it is made already
		if r.Request != 0 {
			conn = in.adopt(t, int32(r.Request))
		}
		spawn(func() { in.client(ctx, t, caller, conn, target, args) })
	case records.Incoming:
		t, ctx := in.begin(r.ID)
		conn := in.adopt(t, r.Value)
		spawn(func() { in.server(ctx, t, conn) })
	case records.Dialed, records.Caller:
		in.mu.Lock()
		answer := in.requests[r.Request]
		delete(in.requests, r.Request)
		in.mu.Unlock()
		if answer != nil {
			answer(r)
		}
	case records.Close:
		if t := in.task(r.ID); t != nil {
			t.finish()
		}
	case records.Abort:
		if t := in.task(r.ID); t != nil {
			t.abort()
		}
	}
}

func (in *instance) task(id uint32) *task {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.tasks[id]
}

func (in *instance) begin(id uint32) (*task, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{id: id, cancel: cancel}
	in.mu.Lock()
	in.tasks[id] = t
	in.mu.Unlock()
	return t, ctx
}

// adopt makes a connection of a descriptor. A task closes it at its end; without
// one, its user does.
func (in *instance) adopt(t *task, fd int32) *eventConn {
	c := newEventConn(fd, in.forget)
	in.mu.Lock()
	in.conns[fd] = c
	in.mu.Unlock()
	if t != nil {
		t.mu.Lock()
		over := t.over
		t.own = append(t.own, c)
		t.mu.Unlock()
		if over {
			c.Close()
		}
	}
	return c
}

func (in *instance) forget(fd int32) {
	in.mu.Lock()
	delete(in.conns, fd)
	in.mu.Unlock()
}

// send gives the host a record, which takes it at once. An error is a fault of the
// SDK or of the host, or of a transport that dials a name which is too long.
func (in *instance) send(r records.Record) error {
	in.writing.Lock()
	defer in.writing.Unlock()
	_, err := syscall.Write(int(in.fd), r.Append(nil))
	if err != nil {
		log.Printf("control record %d: %v", r.Kind, err)
	}
	return err
}

// ask sends a request; answer is called with its answer, and must not block.
func (in *instance) ask(r records.Record, answer func(records.Record)) {
	in.mu.Lock()
	in.last++
	r.Request = in.last
	in.requests[r.Request] = answer
	in.mu.Unlock()
	if err := in.send(r); err != nil {
		in.mu.Lock()
		delete(in.requests, r.Request)
		in.mu.Unlock()
		answer(records.Record{ID: r.ID, Value: -errno(err)})
	}
}

// finish ends a task once all that its caller has written is on the wire.
func (t *task) finish() {
	t.mu.Lock()
	t.closed = true
	j := t.join
	t.mu.Unlock()
	if j != nil {
		j.finish()
	}
}

// abort ends a task at once.
func (t *task) abort() {
	t.cancel()
	t.mu.Lock()
	t.over = true
	own, j := t.own, t.join
	t.mu.Unlock()
	for _, c := range own {
		c.Close() // it may be closed already
	}
	if j != nil {
		go j.close() // the control descriptor does not wait for the transport
	}
}

// end is the last that is done for a task. Its failure is reported to the host before
// its connections are closed.
func (in *instance) end(t *task, err error) {
	t.mu.Lock()
	over := t.over
	t.mu.Unlock()
	if err != nil && !over {
		in.send(records.Record{Kind: records.Fail, ID: t.id, Value: errno(err), Payload: []byte(reason(err))})
	}
	t.abort()
	in.mu.Lock()
	delete(in.tasks, t.id)
	in.mu.Unlock()
}

// client is the work for one outgoing connection.
func (in *instance) client(ctx context.Context, t *task, caller, conn *eventConn, target, args string) {
	var wire net.Conn
	err := guarded(func() error {
		r, err := newRequest(target, args)
		if err != nil {
			return err
		}
		if conn != nil {
			wire, err = transport.Client(ctx, conn, r.Args)
			return err
		}
		r.dial = func(ctx context.Context, target string, shared bool) (Conn, error) {
			return in.dial(ctx, t, target, shared)
		}
		wire, err = dial(ctx, r)
		return err
	})
	if err != nil {
		in.end(t, err)
		return
	}
	in.send(records.Record{Kind: records.Ready, ID: t.id})
	in.carry(t, caller, wire, nil)
}

// carry joins the caller to the wire, and ends the task with that. ended, if not
// nil, is called then.
func (in *instance) carry(t *task, caller Conn, wire net.Conn, ended func()) {
	j := &join{caller: caller, wire: wire, ended: func(err error) {
		in.end(t, err)
		if ended != nil {
			ended()
		}
	}}
	t.mu.Lock()
	t.join = j
	closed, over := t.closed, t.over
	t.mu.Unlock()
	if closed {
		j.finish()
	}
	if over {
		j.close()
	}
	j.run()
}

// dial asks the host for a connection.
func (in *instance) dial(ctx context.Context, t *task, target string, shared bool) (Conn, error) {
	r := records.Record{Kind: records.Dial, ID: t.id, Payload: []byte(target)}
	owner := t
	if shared {
		r.Flags, owner = records.Multiplexed, nil
	}
	type result struct {
		conn *eventConn
		err  error
	}
	done := make(chan result, 1)
	var mu sync.Mutex
	gone := false
	in.ask(r, func(r records.Record) {
		if r.Value < 0 {
			done <- result{err: syscall.Errno(-r.Value)}
			return
		}
		c := in.adopt(owner, r.Value)
		mu.Lock()
		defer mu.Unlock()
		if gone {
			c.Close()
			return
		}
		done <- result{conn: c}
	})
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("dial: %w", r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		mu.Lock()
		gone = true
		mu.Unlock()
		select {
		case r := <-done: // it came at the last moment
			if r.conn != nil {
				r.conn.Close()
			}
		default:
		}
		return nil, ctx.Err()
	}
}

// server is the work for one connection from the network.
func (in *instance) server(ctx context.Context, t *task, conn *eventConn) {
	if a, ok := transport.(Acceptor); ok {
		in.end(t, guarded(func() error { return in.accept(ctx, t, a, conn) }))
		return
	}
	var wire net.Conn
	err := guarded(func() (err error) {
		wire, err = transport.Server(ctx, conn)
		return err
	})
	if err != nil {
		in.end(t, err)
		return
	}
	caller, _, err := in.caller(t, 0)
	if err != nil {
		in.end(t, errors.Join(err, guarded(wire.Close)))
		return
	}
	in.carry(t, caller, wire, nil)
}

// caller asks the host for the caller of a connection that has been set up. With
// the flag Shared that is a connection of its own.
func (in *instance) caller(t *task, flags uint16) (*eventConn, *task, error) {
	type result struct {
		caller *eventConn
		task   *task
		err    error
	}
	done := make(chan result, 1)
	in.ask(records.Record{Kind: records.Accept, Flags: flags, ID: t.id}, func(r records.Record) {
		if r.Value < 0 {
			done <- result{err: syscall.Errno(-r.Value)}
			return
		}
		of := t
		if flags&records.Multiplexed != 0 {
			of, _ = in.begin(r.ID)
		}
		done <- result{caller: in.adopt(of, r.Value), task: of}
	})
	r := <-done
	return r.caller, r.task, r.err
}

// accept serves a network connection over which several callers' connections
// come.
func (in *instance) accept(ctx context.Context, t *task, a Acceptor, conn Conn) error {
	var carried sync.WaitGroup
	err := a.Accept(ctx, conn, func(wire net.Conn) error {
		caller, own, err := in.caller(t, records.Multiplexed)
		if err != nil {
			return errors.Join(err, wire.Close())
		}
		carried.Add(1)
		spawn(func() { in.carry(own, caller, wire, carried.Done) })
		return nil
	})
	carried.Wait()
	return err
}
