package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"waterproxy/watm"
)

// pairOf returns both ends of a connection with the keys of one cipher, over TCP.
func pairOf(t *testing.T, both func() (one, two *direction)) (near, far *tlsConn) {
	t.Helper()
	wires := wirePair(t)
	nearOut, farIn := both()
	farOut, nearIn := both()
	near, far = newConn(wires[0], nearOut, nearIn), newConn(wires[1], farOut, farIn)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// wirePair returns both ends of a connection over TCP.
func wirePair(t *testing.T) [2]watm.Conn {
	t.Helper()
	served := make(chan net.Conn)
	done := t.Context().Done()
	dial := listen(t, func(conn net.Conn) { served <- conn; <-done })
	near, err := dial(t.Context(), "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	return [2]watm.Conn{near, (<-served).(*net.TCPConn)}
}

// directions are both ends' views of one direction, by the name of the cipher.
var directions = map[string]func() (one, two *direction){
	"1.3 AES-128-GCM": func() (one, two *direction) { return direction13(&aes128), direction13(&aes128) },
	"1.3 AES-256-GCM": func() (one, two *direction) { return direction13(&aes256), direction13(&aes256) },
	"1.3 ChaCha20":    func() (one, two *direction) { return direction13(&chacha20), direction13(&chacha20) },
	"1.2 AES-128-GCM": func() (one, two *direction) { return direction12(&aes128), direction12(&aes128) },
	"1.2 ChaCha20":    func() (one, two *direction) { return direction12(&chacha20), direction12(&chacha20) },
}

func direction13(s *suite) *direction {
	return must(newDirection13(s, random(3, s.hash().Size())))
}

func direction12(s *suite) *direction {
	out, _, err := newDirections12(s, random(4, 48), random(5, randomSize), random(6, randomSize))
	return must(out, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestHalfClose: a close_notify ends one direction, and the other one goes on.
func TestHalfClose(t *testing.T) {
	for name, both := range directions {
		t.Run(name, func(t *testing.T) {
			near, far := pairOf(t, both)
			exchange(t, near, far, 100_000)
			if _, err := near.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("written after its end: %v", err)
			}
			near, far = pairOf(t, both)
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(far); len(b) > 0 || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			go func() {
				_, _ = far.Write(random(1, 1<<20)) // an error shows in what arrives
				_ = far.CloseWrite()
			}()
			var got bytes.Buffer
			if n, err := near.WriteTo(&got); err != nil || n != 1<<20 || !bytes.Equal(got.Bytes(), random(1, 1<<20)) {
				t.Errorf("%d bytes came the other way, or others (%v)", n, err)
			}
		})
	}
}

// TestKeyUpdate: a peer may ask for new keys at any time, and either side changes its own
// before a key has sealed too much.
func TestKeyUpdate(t *testing.T) {
	both := directions["1.3 AES-256-GCM"]
	near, far := pairOf(t, both)
	ask := func(from *tlsConn) {
		t.Helper()
		w := &from.out
		record, err := w.seal(nil, typeHandshake, []byte{messageKeyUpdate, 0, 0, 1, 1})
		if err == nil {
			err = w.direction.update()
		}
		if err == nil {
			_, err = w.wire.Write(record)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	say := func(from, to *tlsConn, text string) {
		t.Helper()
		_, err := from.Write([]byte(text))
		got := []byte(text)
		if err == nil {
			_, err = io.ReadFull(to, got)
		}
		if err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	first := bytes.Clone(near.in.secret)
	for range 3 {
		ask(near)
		say(near, far, "sees the question")
		if !far.out.updateDue.Load() {
			t.Error("the question is not noted")
		}
		say(far, near, "an answer first")
		if far.out.updateDue.Load() || bytes.Equal(first, near.in.secret) {
			t.Error("the question is not answered")
		}
		ask(far)
		say(far, near, "the other way")
		say(near, far, "as well")
	}
	near.out.number, far.in.number = mostRecords-1, mostRecords-1
	say(near, far, "the last one with this key")
	say(near, far, "the first one with the next")
	if near.out.number != 1 || far.in.number != 1 {
		t.Errorf("the records have the numbers %d and %d", near.out.number, far.in.number)
	}
	exchange(t, near, far, 1<<20)
}

// TestKeyUpdateGo: Go's TLS understands our change of keys.
func TestKeyUpdateGo(t *testing.T) {
	near, far := overTLS(t, &tls.Config{})
	near.out.updateDue.Store(true)
	exchange(t, near, far, 1<<20)
	if near.out.updateDue.Load() {
		t.Error("the keys have not changed")
	}
}

// TestBadRecords: what is not authentic, or no peer may send, is an error, also in the middle
// of good records, whose bytes arrive; and the peer learns of it.
func TestBadRecords(t *testing.T) {
	good := func(d *direction, kind byte, content []byte) []byte { return must(d.seal(nil, kind, content)) }
	change := func(b []byte, at int, x byte) []byte { b[at] ^= x; return b }
	for _, row := range []struct {
		name  string
		bytes func(d *direction) []byte
		want  error
	}{
		{"changed", func(d *direction) []byte { return change(good(d, typeData, []byte("x")), headerSize+10, 1) }, alertBadRecord},
		{"tag changed", func(d *direction) []byte { b := good(d, typeData, []byte("x")); return change(b, len(b)-1, 0x80) }, alertBadRecord},
		{"left out", func(d *direction) []byte { good(d, typeData, []byte("x")); return good(d, typeData, []byte("y")) }, alertBadRecord},
		{"empty box", func(d *direction) []byte { return []byte{typeData, 3, 3, 0, 0} }, alertBadRecord},
		{"a version", func(d *direction) []byte { return change(good(d, typeData, []byte("x")), 1, 1) }, alertUnexpectedMessage},
		{"a type", func(d *direction) []byte { return change(good(d, typeData, []byte("x")), 0, 0x40) }, alertUnexpectedMessage},
		{"a type within", func(d *direction) []byte { return good(d, 24, []byte("x")) }, alertUnexpectedMessage},
		{"a change of ciphers", func(d *direction) []byte { return []byte{20, 3, 3, 0, 1, 1} }, alertUnexpectedMessage},
		{"too long", func(d *direction) []byte { return append([]byte{typeData, 3, 3, 0xff, 0xff}, make([]byte, 0xffff)...) }, alertRecordOverflow},
		{"a server's hello", func(d *direction) []byte { return good(d, typeHandshake, []byte{messageHello, 0, 0, 0}) }, alertUnexpectedMessage},
		{"no message", func(d *direction) []byte { return good(d, typeHandshake, nil) }, alertUnexpectedMessage},
		{"an endless message", func(d *direction) []byte { return good(d, typeHandshake, []byte{messageTicket, 0xff, 0xff, 0xff}) }, alertUnexpectedMessage},
		{"data within a message", func(d *direction) []byte {
			return append(good(d, typeHandshake, []byte{messageTicket, 0, 0, 9}), good(d, typeAlert, []byte{1, 0})...)
		}, alertUnexpectedMessage},
		{"half an alert", func(d *direction) []byte { return good(d, typeAlert, []byte{2}) }, alertUnexpectedMessage},
		{"an alert", func(d *direction) []byte { return good(d, typeAlert, []byte{2, 40}) }, peerAlert(40)},
		{"nothing, for ever", func(d *direction) (b []byte) {
			for range mostUseless + 1 {
				b = append(b, good(d, typeData, nil)...)
			}
			return b
		}, alertUnexpectedMessage},
	} {
		for version, both := range directions {
			t.Run(row.name+", "+version, func(t *testing.T) {
				near, far := pairOf(t, both)
				go func() {
					first := good(far.out.direction, typeData, []byte("first"))
					_, _ = far.out.wire.Write(append(first, row.bytes(far.out.direction)...)) // an error shows in what arrives
					_ = far.out.wire.CloseWrite()
				}()
				got, err := io.ReadAll(near)
				if string(got) != "first" {
					t.Errorf("%q arrived before", got)
				}
				if err != row.want {
					t.Errorf("%v, want %v", err, row.want)
				}
				if n, err := near.Read(make([]byte, 1)); n > 0 || err != row.want {
					t.Errorf("and then %d bytes, %v", n, err)
				}
				if _, own := row.want.(alert); own && !near.out.ended {
					t.Error("the peer does not learn of it")
				}
			})
		}
	}
}

// TestTickets: what a server sends beside data has no effect, also in pieces.
func TestTickets(t *testing.T) {
	near, far := pairOf(t, directions["1.3 ChaCha20"])
	ticket := append([]byte{messageTicket, 0, 0, 200}, make([]byte, 200)...)
	two := append(bytes.Clone(ticket), ticket...)
	for _, piece := range [][]byte{two, two[:3], two[3:250], two[250:]} {
		if _, err := far.out.wire.Write(must(far.out.seal(nil, typeHandshake, piece))); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, near, far, 1000)
	if near.in.message != nil {
		t.Error("a ticket is kept")
	}
}

// TestTruncated: the end of the wire is no end of the stream, wherever it comes.
func TestTruncated(t *testing.T) {
	for name, both := range directions {
		near, far := pairOf(t, both)
		whole := must(far.out.seal(nil, typeData, random(7, 100)))
		whole = must(far.out.seal(whole, typeData, random(8, 100)))
		for n := range len(whole) + 1 {
			near, far = pairOf(t, both)
			if _, err := far.out.wire.Write(whole[:n]); err != nil {
				t.Fatal(err)
			}
			if err := far.out.wire.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(near)
			if err != io.ErrUnexpectedEOF || len(got)%100 != 0 {
				t.Fatalf("%s: after %d of %d bytes: %d bytes and %v", name, n, len(whole), len(got), err)
			}
		}
	}
}

// TestNumbers: TLS 1.2 has no more keys; a number is never used again.
func TestNumbers(t *testing.T) {
	d := direction12(&aes128)
	d.number = 1<<64 - 1
	if out, err := d.seal(nil, typeData, []byte("x")); err != errNumbers || len(out) > 0 {
		t.Errorf("%x, %v", out, err)
	}
}

// FuzzRecords: whatever comes, an opener neither panics nor makes up bytes.
func FuzzRecords(f *testing.F) {
	for _, both := range directions {
		d, _ := both()
		f.Add(must(d.seal(must(d.seal(nil, typeData, []byte("text"))), typeAlert, []byte{1, 0})), 9, true)
	}
	f.Add(binary.BigEndian.AppendUint16([]byte{typeData, 3, 3}, 17), 3, false)
	f.Fuzz(func(t *testing.T, data []byte, cut int, newer bool) {
		name := map[bool]string{true: "1.3 AES-128-GCM", false: "1.2 AES-128-GCM"}[newer]
		d, _ := directions[name]()
		o := &opener{direction: d, update: func() {}}
		var rest []byte
		for _, part := range [][]byte{data[:max(0, min(cut, len(data)))], data[max(0, min(cut, len(data))):]} {
			in := append(rest, part...)
			payload, left, err := o.open(in)
			if len(payload)+len(left) > len(in) {
				t.Errorf("%d bytes became %d and %d", len(in), len(payload), len(left))
			}
			if err != nil {
				return
			}
			rest = bytes.Clone(left)
		}
	})
}
