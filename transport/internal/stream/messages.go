package stream

import (
	"net"
	"sync"
	"syscall"
)

// maxMessages bounds each direction of a relayed datagram connection; as on the
// network, what comes faster than it is read is lost.
const (
	maxMessages    = 64
	maxMessageSize = 64 << 10
)

// messages relays a datagram connection that has code of its own, keeping
// message boundaries.
type messages struct {
	conn net.Conn

	mu      sync.Mutex
	in, out [][]byte
	err     error // ends reading, after what is in the queue
	closed  bool
	wakers  [2]wakers
	filled  chan struct{} // out has become non-empty, or closed
}

func openMessages(conn net.Conn) *messages {
	m := &messages{conn: conn, filled: make(chan struct{}, 1)}
	go m.receive()
	go m.send()
	return m
}

func (m *messages) receive() {
	buf := make([]byte, maxMessageSize)
	for {
		n, err := m.conn.Read(buf)
		m.mu.Lock()
		if err != nil {
			m.err = err
		} else if len(m.in) < maxMessages {
			m.in = append(m.in, append([]byte(nil), buf[:n]...))
		}
		ws := m.wakers[In].take()
		m.mu.Unlock()
		ws.wake()
		if err != nil {
			return
		}
	}
}

func (m *messages) send() {
	for range m.filled {
		for {
			m.mu.Lock()
			if m.closed {
				m.mu.Unlock()
				return
			}
			if len(m.out) == 0 {
				m.mu.Unlock()
				break
			}
			msg := m.out[0]
			m.out = m.out[1:]
			ws := m.wakers[Out].take()
			m.mu.Unlock()
			ws.wake()
			// A datagram that cannot be sent is lost, like any other.
			_, _ = m.conn.Write(msg)
		}
	}
}

func (m *messages) Read(bufs [][]byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.in) == 0 {
		if m.err != nil {
			return 0, m.err
		}
		return 0, ErrWouldBlock
	}
	msg := m.in[0]
	m.in = m.in[1:]
	return copyOut(bufs, msg), nil
}

func (m *messages) Write(bufs [][]byte) (int, error) {
	if size(bufs) > maxMessageSize {
		return 0, syscall.EMSGSIZE
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, net.ErrClosed
	}
	if len(m.out) >= maxMessages {
		return 0, ErrWouldBlock
	}
	msg := make([]byte, 0, size(bufs))
	for _, b := range bufs {
		msg = append(msg, b...)
	}
	m.out = append(m.out, msg)
	m.wakeSender()
	return len(msg), nil
}

func (m *messages) wakeSender() {
	select {
	case m.filled <- struct{}{}:
	default:
	}
}

func (m *messages) Await(d Direction, w Waker) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || d == In && (len(m.in) > 0 || m.err != nil) || d == Out && len(m.out) < maxMessages {
		return true
	}
	m.wakers[d].add(w)
	return false
}

// CloseRead and CloseWrite do nothing: a datagram connection has no end of
// stream.
func (m *messages) CloseRead() error  { return nil }
func (m *messages) CloseWrite() error { return nil }
func (m *messages) Datagram() bool    { return true }

func (m *messages) Close() error {
	m.mu.Lock()
	m.closed = true
	ws := append(m.wakers[In].take(), m.wakers[Out].take()...)
	m.wakeSender()
	m.mu.Unlock()
	ws.wake()
	return m.conn.Close()
}
