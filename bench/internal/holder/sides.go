package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"waterproxy/bench/internal/oneside"
)

// dialsAtOnce is how many connections a dialer sets up at a time.
const dialsAtOnce = 8

// dialer has the ends at which connections are dialed.
type dialer struct {
	dial    oneside.Dialer
	address string
	conns   []net.Conn
}

func (d *dialer) open(ctx context.Context, n int) error {
	had := len(d.conns)
	if n < had {
		return fmt.Errorf("%d connections are open already", had)
	}
	more := make([]net.Conn, n-had)
	errs := make([]error, dialsAtOnce)
	var wg sync.WaitGroup
	for worker := range dialsAtOnce {
		wg.Go(func() {
			for i := worker; i < len(more) && errs[worker] == nil; i += dialsAtOnce {
				more[i], errs[worker] = d.dialOne(ctx)
			}
		})
	}
	wg.Wait()
	d.conns = append(d.conns, more...)
	return errors.Join(errs...)
}

// dialOne opens a connection and waits for its first byte to come back.
func (d *dialer) dialOne(ctx context.Context) (net.Conn, error) {
	c, err := d.dial(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	if err := send(c); err != nil {
		return nil, err
	}
	return c, receive(c)
}

// check has all bytes under way at once: the listener answers in an order of its
// own.
func (d *dialer) check() error {
	for i, c := range d.conns {
		if err := send(c); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(d.conns), err)
		}
	}
	for i, c := range d.conns {
		if err := receive(c); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(d.conns), err)
		}
	}
	return nil
}

// mark is the byte that goes over every connection.
const mark = 0x55

func send(c net.Conn) error {
	_, err := c.Write([]byte{mark})
	return err
}

func receive(c net.Conn) error {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != mark {
		return fmt.Errorf("sent %#02x, got %#02x", mark, b[0])
	}
	return nil
}

// listener has the ends at which connections are accepted.
type listener struct {
	mu    sync.Mutex
	more  *sync.Cond
	conns []net.Conn
	err   error // why accepting ended, or how a connection failed at once
}

func listen(l net.Listener) *listener {
	s := &listener{}
	s.more = sync.NewCond(&s.mu)
	go s.accept(l)
	return s
}

func (s *listener) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			s.add(nil, err)
			return
		}
		// The goroutine ends with the first byte: a waiting one would be in the
		// figures.
		go func() { s.add(c, echo(c)) }()
	}
}

func (s *listener) add(c net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.conns = append(s.conns, c)
	} else if s.err == nil {
		s.err = err
	}
	s.more.Broadcast()
}

func echo(c net.Conn) error {
	if err := receive(c); err != nil {
		return err
	}
	return send(c)
}

func (s *listener) open(_ context.Context, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) < n && s.err == nil {
		s.more.Wait()
	}
	return s.err
}

func (s *listener) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.conns {
		if err := echo(c); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(s.conns), err)
		}
	}
	return s.err
}
