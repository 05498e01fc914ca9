package stream

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestSpliceDoesNotWait splices a peer that reads only after it has been read
// from: whoever waited for it to take what is left in the pipe would wait for ever.
func TestSpliceDoesNotWait(t *testing.T) {
	for _, mode := range []Mode{Posix, Careful} {
		near, app := NewPipe()
		p := NewEndpoint(near, mode)
		sent := bytes.Repeat([]byte("left in the pipe"), largeRing/16)
		if mode == Careful { // more than fits, so that the endpoint waits for the pipe
			sent = bytes.Repeat(sent, 3)
		}
		if n, err := p.Write([][]byte{sent}); n != len(sent) || err != nil {
			t.Fatal(n, err)
		}
		p.Flush()
		if _, err := app.Write([]byte("from the caller")); err != nil {
			t.Fatal(err)
		}
		peer, far := net.Pipe()
		if err := p.Splice(app, peer, time.Minute, nil); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("from the caller, from the peer"))
		go far.Write([]byte(", from the peer"))
		for n := 0; n < len(got); {
			k, err := p.Read([][]byte{got[n:]})
			n += k
			if err == ErrWouldBlock {
				w := NewSignal()
				if !p.Await(In, w) {
					<-w
				}
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != "from the caller, from the peer" {
			t.Errorf("the module read %q", got)
		}
		want := append(sent, "and after"...)
		read := make(chan []byte)
		go func() {
			b := make([]byte, len(want))
			n, _ := io.ReadFull(far, b)
			far.Close() // net.Pipe cannot be half-closed
			read <- b[:n]
		}()
		for rest := []byte("and after"); len(rest) > 0; {
			n, err := p.Write([][]byte{rest})
			rest = rest[n:]
			if err == ErrWouldBlock {
				w := NewSignal()
				if !p.Await(Out, w) {
					<-w
				}
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !p.Drain(time.Minute, nil) {
			t.Error("the endpoint does not wait for what was written")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if b := <-read; !bytes.Equal(b, want) {
			t.Errorf("mode %d: the peer read %d bytes, or not the right ones", mode, len(b))
		}
	}
}
