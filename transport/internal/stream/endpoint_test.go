package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sockets returns a TCP connection's two ends, the first as a Stream.
func sockets(t *testing.T) (Stream, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := Open(a)
	t.Cleanup(func() { s.Close(); b.Close() })
	return s, b.(*net.TCPConn)
}

// readPort reads as a module does, waiting when there is nothing.
func readPort(p *Endpoint, b []byte) (int, error) {
	s := NewSignal()
	for {
		n, err := p.Read([][]byte{b})
		if err != ErrWouldBlock {
			return n, err
		}
		if !p.Await(In, s) {
			<-s
		}
	}
}

// TestCarefulWritesTakeAll: far more than a socket takes, at once, then the end;
// all of it arrives.
func TestCarefulWritesTakeAll(t *testing.T) {
	s, far := sockets(t)
	p := NewEndpoint(s, Careful)
	const size = 6 << 20
	for at := 0; at < size; at += 30_000 {
		b := numbers(at, min(30_000, size-at))
		if n, err := p.Write(pieces(b, 0, 7, 999)); n != len(b) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if !p.Congested(NewSignal()) {
		t.Error("it does not say that it is congested")
	}
	if err := p.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s1 := NewSignal()
	if p.OutFinished(s1) {
		t.Error("finished before anybody has read it")
	}
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, numbers(0, size)) {
		t.Errorf("%d bytes arrived: %v", len(got), err)
	}
	<-s1
	if !p.OutFinished(NewSignal()) {
		t.Error("it does not say that it is finished")
	}
	if _, out := p.Counts(); out != size {
		t.Errorf("it counts %d bytes", out)
	}
}

// TestCarefulBacklogIsBounded: a module that writes without end has to wait.
func TestCarefulBacklogIsBounded(t *testing.T) {
	s, far := sockets(t)
	p := NewEndpoint(s, Careful)
	b := make([]byte, 256<<10)
	total := 0
	var err error
	for err == nil && total < 100<<20 {
		var n int
		n, err = p.Write([][]byte{b})
		total += n
	}
	if err != ErrWouldBlock {
		t.Fatalf("%d bytes were taken: %v", total, err)
	}
	w := NewSignal()
	if p.Await(Out, w) {
		t.Fatal("full, and ready")
	}
	reading := make(chan int64)
	go func() { n, _ := io.Copy(io.Discard, far); reading <- n }()
	<-w
	p.CloseWrite()
	if n := <-reading; n != int64(total) {
		t.Errorf("%d of %d bytes arrived", n, total)
	}
}

// TestEndIsWithheld from a Careful endpoint's module until it may be shown.
func TestEndIsWithheld(t *testing.T) {
	s, far := sockets(t)
	p := NewEndpoint(s, Careful)
	far.Write([]byte("last"))
	far.Close()
	b := make([]byte, 100)
	if n, err := readPort(p, b); string(b[:n]) != "last" || err != nil {
		t.Fatalf("%q, %v", b[:n], err)
	}
	for !p.InEnded() {
		if n, err := p.Read([][]byte{b}); n != 0 || err != ErrWouldBlock {
			t.Fatalf("%d, %v", n, err)
		}
	}
	w := NewSignal()
	if p.Await(In, w) {
		t.Error("the end shows")
	}
	p.ShowEnd()
	<-w
	if !p.Await(In, w) {
		t.Error("the end does not show")
	}
	if _, err := p.Read([][]byte{b}); err != io.EOF {
		t.Errorf("%v", err)
	}
	if err := p.InBroken(); err != nil {
		t.Errorf("a clean end counts as broken: %v", err)
	}
}

// TestPosixPort is what the stream is: refusals and ends show.
func TestPosixPort(t *testing.T) {
	s, far := sockets(t)
	p := NewEndpoint(s, Posix)
	var err error
	for err == nil {
		_, err = p.Write([][]byte{make([]byte, 1<<20)})
	}
	if err != ErrWouldBlock {
		t.Errorf("a full socket: %v", err)
	}
	far.CloseWrite()
	if _, err := readPort(p, make([]byte, 1)); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
}

// TestReset: the reason of a broken stream is kept.
func TestReset(t *testing.T) {
	for _, mode := range []Mode{Careful, Posix} {
		s, far := sockets(t)
		p := NewEndpoint(s, mode)
		w := NewSignal()
		if p.Await(In, w) {
			t.Fatal("ready for nothing")
		}
		far.SetLinger(0)
		far.Close()
		<-w
		p.Read([][]byte{make([]byte, 1)})
		if !p.InEnded() || !errors.Is(p.InBroken(), syscall.ECONNRESET) {
			t.Errorf("mode %d: ended %v, broken: %v", mode, p.InEnded(), p.InBroken())
		}
	}
}

// TestDrain: what was written leaves although the endpoint is closed right after.
func TestDrain(t *testing.T) {
	for _, mode := range []Mode{Careful, Posix} {
		s, far := sockets(t)
		p := NewEndpoint(s, mode)
		sent, err := p.Write([][]byte{numbers(0, 4<<20)})
		if err != nil {
			t.Fatal(err)
		}
		far.Write([]byte("never read, which would make a reset of the close"))
		var reading sync.WaitGroup
		reading.Go(func() {
			got, err := io.ReadAll(far)
			if err != nil || !bytes.Equal(got, numbers(0, sent)) {
				t.Errorf("mode %d: %d of %d bytes arrived: %v", mode, len(got), sent, err)
			}
			far.Close()
		})
		if !p.Drain(time.Minute, nil) {
			t.Error("it says that not all has left")
		}
		p.Close()
		reading.Wait()
	}
}

// TestDrainGivesUp on a peer that takes nothing, and when it is told to.
func TestDrainGivesUp(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		s, _ := sockets(t)
		p := NewEndpoint(s, Careful)
		for range 30 { // more than the kernel takes
			p.Write([][]byte{make([]byte, 256<<10)})
		}
		cancel := make(chan struct{})
		patience := 20 * time.Millisecond
		if cancelled {
			patience = time.Hour
			time.AfterFunc(20*time.Millisecond, func() { close(cancel) })
		}
		if p.Drain(patience, cancel) {
			t.Error("it says that everything has left")
		}
		p.Close()
	}
}

// TestSplicedOrder: bytes of both directions from before a splice come before
// those from after it.
func TestSplicedOrder(t *testing.T) {
	for _, mode := range []Mode{Careful, Posix} {
		near, app := NewPipe()
		p := NewEndpoint(near, mode)
		peer, user := net.Pipe()
		app.Write(numbers(0, 1000))
		if n, err := p.Write([][]byte{numbers(0, 5000)}); n != 5000 || err != nil {
			t.Fatal(n, err)
		}
		spliced := make(chan error, 1)
		go func() { spliced <- p.Splice(app, peer, time.Minute, nil) }()
		got := make([]byte, 5000)
		if _, err := io.ReadFull(user, got); err != nil || !bytes.Equal(got, numbers(0, 5000)) {
			t.Errorf("to the user: %v", err)
		}
		if err := <-spliced; err != nil {
			t.Fatal(err)
		}
		go user.Write(numbers(1000, 2000))
		var all []byte
		for len(all) < 3000 {
			b := make([]byte, 700)
			n, err := readPort(p, b)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b[:n]...)
		}
		if !bytes.Equal(all, numbers(0, 3000)) {
			t.Error("to the module: wrong bytes")
		}
		p.Write([][]byte{[]byte("after")})
		p.Flush()
		if _, err := io.ReadFull(user, got[:5]); err != nil || string(got[:5]) != "after" {
			t.Errorf("to the user, after: %q, %v", got[:5], err)
		}
		p.Close()
		user.Close()
	}
}
