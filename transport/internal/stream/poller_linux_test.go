package stream

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newPoller returns a Poller, and a socket that waits in it.
func newPoller(t *testing.T) (*Poller, *Endpoint, io.Writer) {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() }) // some tests have
	s, far := sockets(t)
	e := NewEndpoint(s, Posix)
	e.WatchIn(p)
	return p, e, far
}

// woken reports whether a signal has been woken.
func woken(s Signal) bool { return len(s) > 0 }

// TestPollerFires: who waits for a socket learns of it in the goroutine that waits in the
// poller, and in no other.
func TestPollerFires(t *testing.T) {
	for name, look := range map[string]func(*Poller){
		"Wait":            func(p *Poller) { p.Wait(time.Time{}) },
		"Wait, woken":     func(p *Poller) { p.Wake(); p.Wait(time.Time{}) },
		"Wait, too late":  func(p *Poller) { p.Wait(time.Now().Add(-time.Second)) },
		"Look":            (*Poller).Look,
		"Look, then Wait": func(p *Poller) { p.Look(); p.Wake(); p.Wait(time.Time{}) },
	} {
		t.Run(name, func(t *testing.T) {
			p, e, far := newPoller(t)
			w := NewSignal()
			if e.Await(In, w) {
				t.Fatal("ready for nothing")
			}
			p.Look()
			if woken(w) {
				t.Fatal("woken for nothing")
			}
			// A second socket of the same kind, which the process's poller watches, shows
			// when the kernel has had the time to tell.
			other, otherFar := sockets(t)
			later := NewSignal()
			other.Await(In, later)
			if _, err := far.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			if _, err := otherFar.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			<-later
			if woken(w) {
				t.Fatal("woken by another goroutine")
			}
			look(p)
			if !woken(w) {
				t.Error("not woken")
			}
		})
	}
}

// TestPollerWakes: a wake ends a wait, whether it comes before or during it.
func TestPollerWakes(t *testing.T) {
	p, _, _ := newPoller(t)
	p.Wake()
	p.Wait(time.Time{})
	for range 1000 {
		done := make(chan struct{})
		go func() {
			p.Wait(time.Time{})
			close(done)
		}()
		p.Wake()
		<-done
	}
	p.Wait(time.Now().Add(time.Millisecond)) // returns although nothing happens
}

// TestPollerCloses: who waits when the poller is closed, or comes later, is woken by the
// process's; so is who waits for an endpoint that is drained.
func TestPollerCloses(t *testing.T) {
	for name, end := range map[string]func(*Poller, *Endpoint){
		"Close":   func(p *Poller, _ *Endpoint) { _ = p.Close() },
		"WatchIn": func(_ *Poller, e *Endpoint) { e.WatchIn(nil) },
		"Discard": func(_ *Poller, e *Endpoint) { e.Discard(time.Now(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			p, e, far := newPoller(t)
			before, after := NewSignal(), NewSignal()
			e.Await(In, before)
			end(p, e)
			e.Await(In, after)
			if _, err := far.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			<-before
			<-after
		})
	}
	p, _, _ := newPoller(t)
	_ = p.Close()
	s, far := sockets(t)
	e, w := NewEndpoint(s, Posix), NewSignal()
	e.WatchIn(p)
	e.Await(In, w)
	if _, err := far.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	<-w
}

// TestPollersAtOnce has eight goroutines, each with a poller and ten sockets that echo,
// and ends them while they wait.
func TestPollersAtOnce(t *testing.T) {
	const pollers, conns, rounds = 8, 10, 300
	var running, clients sync.WaitGroup
	var ps []*Poller
	stop := make(chan struct{})
	for range pollers {
		p, err := NewPoller()
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
		var es []*Endpoint
		for range conns {
			s, far := sockets(t)
			e := NewEndpoint(s, Posix)
			e.WatchIn(p)
			es = append(es, e)
			clients.Go(func() {
				b := make([]byte, 1)
				for i := range rounds {
					b[0] = byte(i)
					_, err := far.Write(b)
					if err == nil {
						_, err = io.ReadFull(far, b)
					}
					if err != nil || b[0] != byte(i) {
						t.Errorf("round %d: %v, %v", i, b[0], err)
						return
					}
				}
			})
		}
		running.Go(func() {
			b := make([]byte, 16)
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, e := range es {
					for e.Await(In, p) {
						n, err := e.Read([][]byte{b})
						if err == nil {
							_, err = e.Write([][]byte{b[:n]})
						}
						if err != nil && err != ErrWouldBlock {
							t.Error(err)
							return
						}
					}
				}
				p.Wait(time.Time{})
			}
		})
	}
	clients.Wait()
	close(stop)
	for _, p := range ps {
		p.Wake()
	}
	running.Wait()
	for _, p := range ps {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUnwatched: a socket that no poller can watch fails, and is not tried for ever.
func TestUnwatched(t *testing.T) {
	s, _ := sockets(t)
	s.(*socket).unwatched = syscall.EMFILE
	if _, err := s.Read([][]byte{make([]byte, 1)}); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("read: %v", err)
	}
	if _, err := s.Write([][]byte{make([]byte, 1)}); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("write: %v", err)
	}
}
