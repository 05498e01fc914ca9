package record

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }

// recorded returns the two ends of a connection through a recorder.
func recorded(t *testing.T) (r *Recorder, client, server *net.TCPConn) {
	t.Helper()
	l := pttest.Listen(t)
	r, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.ForwardTo(l.Addr().String())
	client = pttest.Dial(t, r.Address())
	return r, client, pttest.Accept(t, l)
}

// send writes text, and reads it at the other end.
func send(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("%q came, of %q: %v", got, text, err)
	}
}

// Each segment has its direction, its bytes and its time, and a half-close is one.
func TestSegments(t *testing.T) {
	r, client, server := recorded(t)
	began := time.Now()
	send(t, client, server, "hello")
	send(t, server, client, "an answer")
	send(t, client, server, "more")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("after the client's half-close the server reads %d bytes (%v)", n, err)
	}
	send(t, server, client, "the rest")
	server.Close()
	if _, err := io.Copy(io.Discard, client); err != nil {
		t.Fatal(err)
	}
	f := r.Flows()[0]
	type seen struct {
		d    Direction
		text string
	}
	var got []seen
	for i, s := range f.Segments {
		got = append(got, seen{s.Direction, string(s.Data)})
		if s.At < 0 || s.At > time.Since(began)+time.Second || i > 0 && s.At < f.Segments[i-1].At || s.Length != len(s.Data) {
			t.Errorf("segment %d has %+v", i, s)
		}
	}
	want := []seen{{ToServer, "hello"}, {ToClient, "an answer"}, {ToServer, "more"}, {ToClient, "the rest"}}
	if !slices.Equal(got, want) || f.Ends != [2]End{FIN, FIN} {
		t.Errorf("recorded %v with the ends %v", got, f.Ends)
	}
	if string(f.Opening()) != "hello" || string(f.FirstPayload(ToClient)) != "an answer" || string(f.Stream(ToServer)) != "hellomore" {
		t.Errorf("%q, %q, %q", f.Opening(), f.FirstPayload(ToClient), f.Stream(ToServer))
	}
	last := f.Segments[3].At
	if n := f.RoundTrips(last); n != 1 {
		t.Errorf("%d round trips", n)
	}
	if n := f.RoundTrips(f.Segments[1].At); n != 0 {
		t.Errorf("%d round trips until the answer", n)
	}
}

// A reset goes on as a reset, from either side.
func TestReset(t *testing.T) {
	for _, d := range []Direction{ToServer, ToClient} {
		t.Run(d.String(), func(t *testing.T) {
			r, client, server := recorded(t)
			send(t, client, server, "hello")
			from, to := client, server
			if d == ToClient {
				from, to = server, client
			}
			reset(from)
			if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the other end reads: %v", err)
			}
			if f := r.Flows()[0]; f.Ends[d] != RST {
				t.Errorf("the ends are %v", f.Ends)
			}
		})
	}
}

// A long segment is cut into packets, and its bytes are kept up to a limit.
func TestPackets(t *testing.T) {
	r, client, server := recorded(t)
	text := bytes.Repeat([]byte("0123456789"), 100_000)
	go client.Write(text)
	if _, err := io.ReadFull(server, make([]byte, len(text))); err != nil {
		t.Fatal(err)
	}
	f := r.Flows()[0]
	var all, kept int
	for i, p := range f.Packets() {
		if p.Length < 1 || p.Length > MSS || p.Data != nil && len(p.Data) != p.Length {
			t.Fatalf("packet %d has %d bytes, %d of them kept", i, p.Length, len(p.Data))
		}
		all += p.Length
		kept += len(p.Data)
	}
	if all != len(text) || kept < KeptBytes || kept > KeptBytes+64<<10 {
		t.Errorf("packets of %d bytes, %d of them kept", all, kept)
	}
	if !bytes.Equal(f.Stream(ToServer), text[:kept]) {
		t.Error("what is kept is not what was sent")
	}
	cut := Flow{Segments: []Segment{{Direction: ToServer, Length: MSS}, {Direction: ToClient, Length: 2*MSS + 1}}}
	var lengths []int
	for _, p := range cut.Packets() {
		lengths = append(lengths, p.Length)
	}
	if !slices.Equal(lengths, []int{MSS, MSS, MSS, 1}) {
		t.Errorf("packets of %v bytes", lengths)
	}
}

// A server that is not there is an error of the recorder, and the client's connection ends.
func TestNoServer(t *testing.T) {
	r, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.ForwardTo(pttest.DeadAddress(t))
	pttest.AwaitClose(t, pttest.Dial(t, r.Address()))
	if err := r.Close(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the error is %v", err)
	}
}
