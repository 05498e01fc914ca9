package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// pairMaker returns the two ends of a connection of some kind.
type pairMaker func(t testing.TB) (inner, outer net.Conn)

func tcpPair(t testing.TB) (net.Conn, net.Conn) { return socketPair(t, loopback(t)) }

func unixPair(t testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socketPair(t, l)
}

func socketPair(t testing.TB, l net.Listener) (net.Conn, net.Conn) {
	t.Helper()
	inner, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	outer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close(); outer.Close() })
	return inner, outer
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	inner, outer := net.Pipe()
	t.Cleanup(func() { inner.Close(); outer.Close() })
	return inner, outer
}

func tlsPair(t testing.TB) (net.Conn, net.Conn) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	a, b := tcpPair(t)
	inner := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: "test"})
	outer := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err := together(inner.Handshake, outer.Handshake); err != nil {
		t.Fatal(err)
	}
	return inner, outer
}

// flipped is a user's type over a kernel socket: it changes every byte, so that
// whoever goes round it is found out.
type flipped struct{ *net.TCPConn }

func flip(b []byte) {
	for i := range b {
		b[i] ^= 0xff
	}
}

func (c flipped) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	flip(p[:n])
	return n, err
}

func (c flipped) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	flip(p)
	return c.TCPConn.Write(p)
}

// ReadFrom and WriteTo would go round Write and Read as well.
func (c flipped) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

func (c flipped) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

func flippedPair(t testing.TB) (net.Conn, net.Conn) {
	inner, outer := tcpPair(t)
	return flipped{inner.(*net.TCPConn)}, flipped{outer.(*net.TCPConn)}
}

// streamPairs are the kinds of connection that can be under a module, or be
// spliced to one. Net.Pipe has no half-close.
var streamPairs = map[string]pairMaker{
	"tcp": tcpPair, "unix": unixPair, "tls": tlsPair, "net.Pipe": pipePair, "user type": flippedPair,
}

// dialing makes a connection whose network side is conn.
func dialing(t testing.TB, name string, conn net.Conn) Conn {
	t.Helper()
	cfg := testConfig(t, name)
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	d, err := NewRuntimeConnDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialContext(t.Context(), "tcp", "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

var connModules = []string{"plain", "plain_v0", "plain_v1", "posix_v1"}

// TestConnKinds: any net.Conn can be the network side, and its own code is used.
func TestConnKinds(t *testing.T) {
	const size = 1 << 20
	for kind, pair := range streamPairs {
		for _, name := range connModules {
			t.Run(kind+"/"+name, func(t *testing.T) {
				inner, outer := pair(t)
				near := dialing(t, name, inner)
				if near.LocalAddr() != inner.LocalAddr() || near.RemoteAddr() != inner.RemoteAddr() {
					t.Errorf("addresses %v and %v", near.LocalAddr(), near.RemoteAddr())
				}
				deadline := time.Now().Add(patience)
				near.SetDeadline(deadline)
				outer.SetDeadline(deadline)
				up, down := pattern(1), pattern(2)
				half, canHalfClose := outer.(duplex)
				err := together(func() error {
					_, err := up.write(near, size, always(5000))
					return errors.Join(err, near.CloseWrite())
				}, func() error {
					n, err := down.check(near, -1, always(3000))
					return complete(n, size, err)
				}, func() error {
					if canHalfClose { // the end of our half has to arrive
						n, err := up.check(outer, -1, always(7000))
						if err = complete(n, size, err); err != nil {
							return err
						}
						_, err = down.write(outer, size, always(9000))
						return errors.Join(err, half.CloseWrite())
					}
					n, err := up.check(outer, size, always(7000))
					if err = complete(n, size, err); err != nil {
						return err
					}
					_, err = down.write(outer, size, always(9000))
					return errors.Join(err, outer.Close())
				})
				if err != nil {
					t.Error(err)
				}
				outer.Close()
				near.Close()
				within(t, "ending", func() { <-near.Done() })
			})
		}
	}
}

// TestConnKindsClose: what was written before Close arrives through any of them.
func TestConnKindsClose(t *testing.T) {
	const size = 300_000
	for kind, pair := range streamPairs {
		for _, name := range connModules {
			t.Run(kind+"/"+name, func(t *testing.T) {
				inner, outer := pair(t)
				near := dialing(t, name, inner)
				outer.SetDeadline(time.Now().Add(patience))
				p := pattern(4)
				err := together(func() error {
					_, err := p.write(near, size, always(size))
					return errors.Join(err, near.Close())
				}, func() error {
					n, err := p.check(outer, -1, always(10_000))
					return errors.Join(complete(n, size, err), outer.Close())
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func complete(got, want int64, err error) error {
	if err == nil && got != want {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// wrappedUDP is a user's type over a UDP socket.
type wrappedUDP struct{ net.Conn }

func (c wrappedUDP) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	flip(p[:n])
	return n, err
}

func (c wrappedUDP) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	flip(p)
	return c.Conn.Write(p)
}

// TestMessages: a connected UDP socket keeps its message boundaries on the wire.
func TestMessages(t *testing.T) {
	for _, name := range []string{"plain_v0", "plain_16k_v1", "plain_sock_v1", "posix_v1"} {
		for _, wrapped := range []bool{false, true} {
			kind := map[bool]string{false: "/raw", true: "/wrapped"}[wrapped]
			t.Run(name+kind, func(t *testing.T) {
				outer, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer outer.Close()
				udp, err := net.Dial("udp", outer.LocalAddr().String())
				if err != nil {
					t.Fatal(err)
				}
				inner := udp
				if wrapped {
					inner = wrappedUDP{udp}
				}
				near := dialing(t, name, inner)
				near.SetDeadline(time.Now().Add(patience))
				outer.SetDeadline(time.Now().Add(patience))
				buf := make([]byte, 10_000)
				for i := range 50 {
					// In lockstep, so that the stream's side has one message at a time.
					want := pattern(i).bytes(1 + i*60)
					if _, err := near.Write(want); err != nil {
						t.Fatal(err)
					}
					n, from, err := outer.ReadFrom(buf)
					if err != nil {
						t.Fatal(err)
					}
					if wrapped {
						flip(buf[:n])
					}
					if string(buf[:n]) != string(want) {
						t.Fatalf("message %d of %d bytes arrived as %d", i, len(want), n)
					}
					// Two at once the other way: each is read by itself, none is lost.
					for range 2 {
						msg := append([]byte(nil), want...)
						if wrapped {
							flip(msg)
						}
						if _, err := outer.WriteTo(msg, from); err != nil {
							t.Fatal(err)
						}
					}
					got := make([]byte, 2*len(want))
					if _, err := io.ReadFull(near, got); err != nil {
						t.Fatal(err)
					}
					if string(got) != string(want)+string(want) {
						t.Fatalf("answer %d is wrong", i)
					}
				}
				near.Close()
				within(t, "ending", func() { <-near.Done() })
			})
		}
	}
}
