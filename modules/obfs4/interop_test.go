package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"gitlab.com/yawning/obfs4.git/common/drbg"
	"gitlab.com/yawning/obfs4.git/common/probdist"
	"gitlab.com/yawning/obfs4.git/transports/base"
	library "gitlab.com/yawning/obfs4.git/transports/obfs4"
	"gitlab.com/yawning/obfs4.git/transports/obfs4/framing"
	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/watm"
)

// side is an implementation of one side: it makes a connection of one below.
type side func(t *testing.T, raw *net.TCPConn) (net.Conn, error)

// serverOptions have a seed whose table of lengths has no 0, for which the library panics in
// iat-mode 2, on either side.
func serverOptions(iatMode string) watm.Args {
	return watm.Args{
		"node-id":     {"0102030405060708090a0b0c0d0e0f1011121314"},
		"private-key": {"2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40"},
		"drbg-seed":   {"736565642035360000000000000000000000000000000000"},
		"iat-mode":    {iatMode},
	}
}

// libraryServer returns the library's server, and the arguments for its clients.
func libraryServer(t *testing.T, iatMode string) (side, watm.Args) {
	t.Helper()
	options := pt.Args(serverOptions(iatMode))
	server, err := new(library.Transport).ServerFactory(t.TempDir(), &options)
	if err != nil {
		t.Fatal(err)
	}
	return func(_ *testing.T, raw *net.TCPConn) (net.Conn, error) { return server.WrapConn(raw) }, watm.Args(*server.Args())
}

func libraryClient(args watm.Args) side {
	return func(t *testing.T, raw *net.TCPConn) (net.Conn, error) {
		t.Helper()
		client, err := new(library.Transport).ClientFactory("")
		if err != nil {
			return nil, err
		}
		given := pt.Args(args)
		parsed, err := client.ParseArgs(&given)
		if err != nil {
			return nil, err
		}
		return client.Dial("", "", base.DialFunc(func(string, string) (net.Conn, error) { return raw, nil }), parsed)
	}
}

// ourServer returns our server, and the arguments for its clients.
func ourServer(t *testing.T, iatMode string, prefixes ...string) (side, watm.Args) {
	t.Helper()
	options := serverOptions(iatMode)
	options["prefix"] = prefixes
	st, err := keepState(t.TempDir(), options)
	if err != nil {
		t.Fatal(err)
	}
	o := &obfs4{newServer(st)}
	o.server.delay = time.Second
	return func(t *testing.T, raw *net.TCPConn) (net.Conn, error) { return o.Server(context.Background(), raw) }, st.clientArgs()
}

func ourClient(args watm.Args) side {
	return func(t *testing.T, raw *net.TCPConn) (net.Conn, error) {
		return new(obfs4).Client(context.Background(), raw, args)
	}
}

// rawPair returns the ends of a TCP connection.
func rawPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); accepted.Close() })
	return raw.(*net.TCPConn), accepted.(*net.TCPConn)
}

// pair connects two sides over TCP.
func pair(t *testing.T, client, server side) (near, far net.Conn) {
	t.Helper()
	raw, accepted := rawPair(t)
	var both sync.WaitGroup
	var serverErr error
	both.Go(func() { far, serverErr = server(t, accepted) })
	near, err := client(t, raw)
	both.Wait()
	if err != nil || serverErr != nil {
		t.Fatalf("the client: %v; the server: %v", err, serverErr)
	}
	return near, far
}

// pairings are all pairs with at least one of our sides.
func pairings(t *testing.T, iatMode string, f func(t *testing.T, client, server side)) {
	ours, ourArgs := ourServer(t, iatMode)
	theirs, theirArgs := libraryServer(t, iatMode)
	t.Run("ours", func(t *testing.T) { f(t, ourClient(ourArgs), ours) })
	t.Run("our client", func(t *testing.T) { f(t, ourClient(theirArgs), theirs) })
	t.Run("our server", func(t *testing.T) { f(t, libraryClient(ourArgs), ours) })
}

// exchange sends what in pieces of a size, and fails the test if anything else arrives.
func exchange(t *testing.T, from, to net.Conn, what []byte, size int) {
	t.Helper()
	var sending sync.WaitGroup
	sending.Go(func() {
		for left := what; len(left) > 0; {
			n := min(size, len(left))
			if _, err := from.Write(left[:n]); err != nil {
				t.Error(err)
				return
			}
			left = left[n:]
		}
	})
	got := make([]byte, len(what))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, what) {
		t.Errorf("what came is not what was sent: %v", err)
	}
	sending.Wait()
}

func noise(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TestInterop: our sides and the library's carry all bytes, both ways, in writes of all
// sizes, in each iat-mode.
func TestInterop(t *testing.T) {
	for mode, size := range map[string]int{"0": 4 << 20, "1": 64 << 10, "2": 32 << 10} {
		t.Run("iat-mode "+mode, func(t *testing.T) {
			pairings(t, mode, func(t *testing.T, client, server side) {
				near, far := pair(t, client, server)
				for _, step := range []int{1, 1200, 1427, 1428, 5000, 300 << 10} {
					what := noise(t, min(size, step*40))
					exchange(t, near, far, what, step)
					exchange(t, far, near, what, step)
				}
			})
		})
	}
}

// TestHandshakes: a thousand handshakes succeed in each pairing, whatever is drawn for
// them.
func TestHandshakes(t *testing.T) {
	pairings(t, "0", func(t *testing.T, client, server side) {
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for range 250 {
					near, far := pair(t, client, server)
					exchange(t, near, far, []byte("hello"), 5)
					exchange(t, far, near, []byte("hello"), 5)
					near.Close()
					far.Close()
				}
			})
		}
		workers.Wait()
	})
}

// TestSameLengths: a distribution is the library's, number by number.
func TestSameLengths(t *testing.T) {
	for range 20 {
		var s seed
		random(s[:])
		theirSeed, err := drbg.SeedFromBytes(s[:])
		if err != nil {
			t.Fatal(err)
		}
		theirs := probdist.New(theirSeed, 0, framing.MaximumSegmentLength, false)
		ours := newDistribution(&s, maxFrame)
		const n = 50_000
		count := map[int]int{}
		for range n {
			count[theirs.Sample()]++
			count[ours.sample()]--
		}
		for value, difference := range count {
			// Six standard deviations of a difference of two counts of 1/2 each at most.
			if difference*difference > 36*n/2 {
				t.Errorf("the length %d is there %d times more often in one of two times %d", value, difference, n)
			}
		}
	}
}

// TestReplay: what has been sent to a server once is no handshake the second time.
func TestReplay(t *testing.T) {
	st, err := keepState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	replays := newReplayFilter()
	now := time.Now()
	client := &clientHandshake{bridge: &st.bridge, session: newSessionKey()}
	message := client.message(now)
	ask := func(message []byte, at time.Time) error {
		h := &serverHandshake{bridge: &st.bridge, private: &st.private, replays: replays, session: newSessionKey()}
		return h.asked(message, at)
	}
	for n := range len(message) - 1 {
		if n%97 == 0 || n > len(message)-40 {
			if err := ask(message[:n], now); err != errMore {
				t.Fatalf("after %d of %d bytes: %v", n, len(message), err)
			}
		}
	}
	if err := ask(append(append([]byte(nil), message...), 0), now); err == nil {
		t.Error("a byte too many is taken")
	}
	if err := ask(message, now.Add(2*time.Hour)); err != errHandshake {
		t.Errorf("two hours later: %v", err)
	}
	if err := ask(message, now); err != nil {
		t.Errorf("the first time: %v", err)
	}
	if err := ask(message, now.Add(time.Minute)); err != errReplay {
		t.Errorf("the second time: %v", err)
	}
	if err := ask(noise(t, maxHandshake), now); err != errHandshake {
		t.Errorf("noise: %v", err)
	}
}

// TestClocks: a client whose clock is an hour ahead or behind gets in, and one that is two
// hours away does not.
func TestClocks(t *testing.T) {
	st, err := keepState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for away, want := range map[time.Duration]error{-2 * time.Hour: errHandshake, -time.Hour: nil, 0: nil, time.Hour: nil, 2 * time.Hour: errHandshake} {
		client := &clientHandshake{bridge: &st.bridge, session: newSessionKey()}
		server := &serverHandshake{bridge: &st.bridge, private: &st.private, replays: newReplayFilter(), session: newSessionKey()}
		if err := server.asked(client.message(now.Add(away)), now); err != want {
			t.Errorf("%v away: %v, want %v", away, err, want)
		}
	}
}

// TestReplayFilter: what is too old, or too much, is forgotten, and a clock that goes back
// forgets all.
func TestReplayFilter(t *testing.T) {
	f := newReplayFilter()
	mac := func(i int) []byte { return strconv.AppendInt(nil, int64(i), 10) }
	began := time.Now()
	if f.isReplay(mac(0), began) || !f.isReplay(mac(0), began.Add(replayTTL-1)) || f.isReplay(mac(0), began.Add(replayTTL)) {
		t.Error("it does not forget after three hours, or before")
	}
	for i := range maxReplays + 10 {
		if f.isReplay(mac(i+1), began.Add(replayTTL)) {
			t.Fatal("one is there twice")
		}
	}
	if len(f.seen) > maxReplays || len(f.order) > maxReplays {
		t.Errorf("it remembers %d", len(f.seen))
	}
	if f.isReplay(mac(maxReplays+5), began) {
		t.Error("it believes a clock that has gone back")
	}
}

// FuzzOpen: whatever comes is opened, or refused, and nothing else happens.
func FuzzOpen(f *testing.F) {
	var keys [keysLength]byte
	out := newDirection(keys[:])
	frames, err := out.seal(nil, typePayload, []byte("hello"), 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frames, 7)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		in := opener{direction: newDirection(keys[:])}
		var rest []byte
		var scratch [maxFrame]byte
		for len(data) > 0 {
			n := min(max(step, 1), len(data))
			next, err := in.open(append(rest, data[:n]...), scratch[:], func(byte, []byte) {})
			if err != nil {
				return
			}
			rest, data = append([]byte(nil), next...), data[n:]
		}
	})
}
