package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// addressed makes a net.Conn of a PipeConn, which has no addresses.
type addressed struct{ *PipeConn }

func (addressed) LocalAddr() net.Addr  { return &net.IPAddr{} }
func (addressed) RemoteAddr() net.Addr { return &net.IPAddr{} }

// TestPipeConn joins the Go ends of two pipes by a goroutine that does what a
// module does, and has x/net's conformance tests run on them.
func TestPipeConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, appA := NewPipe()
		b, appB := NewPipe()
		var copying sync.WaitGroup
		copying.Go(func() { shovel(a, b) })
		copying.Go(func() { shovel(b, a) })
		return addressed{appA}, addressed{appB}, func() {
			appA.Close()
			appB.Close()
			copying.Wait()
		}, nil
	})
}

// shovel copies to the end of from, and passes that on.
func shovel(from, to Stream) {
	defer to.CloseWrite()
	s := NewSignal()
	buf := make([]byte, 3000)
	for {
		n, err := from.Read([][]byte{buf})
		if err == ErrWouldBlock {
			if !from.Await(In, s) {
				<-s
			}
			continue
		}
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) > 0; {
			n, err := to.Write([][]byte{b})
			b = b[n:]
			if err == ErrWouldBlock {
				if !to.Await(Out, s) {
					<-s
				}
			} else if err != nil {
				return
			}
		}
	}
}

func TestPipeConnErrors(t *testing.T) {
	near, app := NewPipe()
	reason := errors.New("a reason")
	near.Write([][]byte{[]byte("last words")})
	app.EndWith(func() error { return reason })
	near.Close()
	b := make([]byte, 100)
	if n, err := app.Read(b); string(b[:n]) != "last words" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, err := app.Read(b); err != reason {
		t.Errorf("read: %v", err)
	}
	if _, err := app.Write(b); err != reason {
		t.Errorf("write: %v", err)
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	if err := app.Close(); err != net.ErrClosed {
		t.Errorf("a second Close: %v", err)
	}
	if _, err := app.Read(b); err != net.ErrClosed {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := app.Write(b); err != net.ErrClosed {
		t.Errorf("write after Close: %v", err)
	}
}

// TestPipeConnCloseUnblocks: Close ends calls that wait.
func TestPipeConnCloseUnblocks(t *testing.T) {
	_, app := NewPipe()
	var blocked sync.WaitGroup
	blocked.Go(func() {
		if _, err := app.Read(make([]byte, 1)); err != net.ErrClosed {
			t.Errorf("read: %v", err)
		}
	})
	blocked.Go(func() {
		if n, err := app.Write(make([]byte, 2*largeRing)); err != net.ErrClosed || n != largeRing {
			t.Errorf("write: %d, %v", n, err)
		}
	})
	for {
		app.in.mu.Lock()
		reading := len(app.in.readers) > 0
		app.in.mu.Unlock()
		app.out.mu.Lock()
		writing := len(app.out.writers) > 0
		app.out.mu.Unlock()
		if reading && writing {
			break
		}
		time.Sleep(time.Millisecond)
	}
	app.Close()
	blocked.Wait()
}

func TestDeadline(t *testing.T) {
	var d deadline
	if isClosed(d.passed()) {
		t.Error("the zero deadline has passed")
	}
	d.set(time.Now().Add(-time.Second))
	if !isClosed(d.passed()) {
		t.Error("one in the past has not passed")
	}
	d.set(time.Time{})
	if isClosed(d.passed()) {
		t.Error("one that was removed has passed")
	}
	// Who waits is served by a deadline that is set, or moved, while he waits.
	waiting := d.passed()
	d.set(time.Now().Add(time.Hour))
	d.set(time.Now().Add(5 * time.Millisecond))
	<-waiting
	d.set(time.Now().Add(time.Hour))
	waiting = d.passed()
	d.set(time.Now().Add(-1))
	<-waiting
	d.set(time.Now().Add(time.Millisecond))
	d.stop()
	if waiting = d.passed(); isClosed(waiting) && d.timer != nil {
		t.Error("a stopped deadline has a timer")
	}
}

// TestPipeWriters: writes of several goroutines are not mixed up.
func TestPipeWriters(t *testing.T) {
	near, app := NewPipe()
	const size, writers, rounds = 100_000, 4, 10
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			data := make([]byte, size)
			for j := range data {
				data[j] = byte(i)
			}
			for range rounds {
				if _, err := app.Write(data); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writing.Wait(); app.CloseWrite() }()
	total, run, last := 0, 0, byte(255)
	s := NewSignal()
	buf := make([]byte, 10_000)
	for {
		n, err := near.Read([][]byte{buf})
		for _, b := range buf[:n] {
			if b != last {
				if run%size != 0 {
					t.Fatalf("a write was cut after %d bytes", run%size)
				}
				last, run = b, 0
			}
			run++
		}
		total += n
		if err == io.EOF {
			break
		}
		if err == ErrWouldBlock && !near.Await(In, s) {
			<-s
		}
	}
	if total != size*writers*rounds {
		t.Errorf("%d bytes arrived", total)
	}
}

func TestPipeDeadlineExceeded(t *testing.T) {
	_, app := NewPipe()
	app.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := app.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	go func() { // once all that fits is written
		for filled := 0; filled < largeRing; runtime.Gosched() {
			app.out.mu.Lock()
			filled = app.out.n
			app.out.mu.Unlock()
		}
		app.SetWriteDeadline(time.Now())
	}()
	if n, err := app.Write(make([]byte, largeRing+1)); !errors.Is(err, os.ErrDeadlineExceeded) || n != largeRing {
		t.Errorf("write: %d, %v", n, err)
	}
	if len(app.in.readers)+len(app.out.writers) > 0 {
		t.Error("those who no longer wait are still remembered")
	}
	app.Close()
}
