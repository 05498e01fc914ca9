package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"waterproxy/transport"
)

var (
	schedules       = flag.Int("faults.schedules", 100, "schedules of faults for each transport")
	engineSchedules = flag.Int("faults.engines", 10, "schedules for each transport, compiled on one side and interpreted on the other")
	faultSeed       = flag.Uint64("faults.seed", 1, "seed of the schedules")
)

// schedule is what a network connection does to those who use it: one call after another
// is cut short or delayed, and one, if there is a fault, fails and resets the connection.
type schedule struct {
	mu     sync.Mutex
	random *rand.Rand
	most   int           // bytes of one call
	delay  time.Duration // at most, before one call of eight
	fault  int           // calls until one fails; below 0: none does
}

func newSchedule(random *rand.Rand, faulty bool) *schedule {
	s := &schedule{
		random: rand.New(rand.NewPCG(random.Uint64(), random.Uint64())),
		most:   1 << random.IntN(17), delay: time.Duration(random.IntN(200)) * time.Microsecond, fault: -1,
	}
	if faulty {
		s.fault = random.IntN(1 << random.IntN(8))
	}
	return s
}

// next returns how many of n bytes a call may have, and whether it fails.
func (s *schedule) next(n int) (most int, fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.random.IntN(8) == 0 && s.delay > 0 {
		time.Sleep(time.Duration(s.random.Int64N(int64(s.delay)))) // which is the fault, and waits for nothing
	}
	if s.random.IntN(256) == 0 {
		s.most = 1 << s.random.IntN(17) // a connection that streams share is not slow for ever
	}
	s.fault--
	return min(n, 1+s.random.IntN(s.most)), s.fault == -1
}

// faultyConn is a TCP connection with a schedule.
type faultyConn struct {
	*net.TCPConn
	*schedule
}

func (c *faultyConn) reset() error {
	_ = c.SetLinger(0) // it may be closed already
	_ = c.TCPConn.Close()
	return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, fails := c.next(len(p))
	if fails {
		return 0, c.reset()
	}
	return c.TCPConn.Read(p[:n])
}

// Write writes all, in pieces, or fails after some.
func (c *faultyConn) Write(p []byte) (total int, err error) {
	for total < len(p) {
		n, fails := c.next(len(p) - total)
		if fails {
			return total, c.reset()
		}
		n, err = c.TCPConn.Write(p[total : total+n])
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// ReadFrom and WriteTo would go round Read and Write.
func (c *faultyConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }
func (c *faultyConn) WriteTo(w io.Writer) (int64, error)  { return io.Copy(w, struct{ io.Reader }{c}) }

// SyscallConn is not there: whoever had the socket would go round them, too.
func (c *faultyConn) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// faulty makes the connections of a pair, on both sides.
type faulty struct {
	mu     sync.Mutex
	random *rand.Rand
	faults atomic.Bool // some of the connections fail
}

func (f *faulty) wrap(c net.Conn) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &faultyConn{c.(*net.TCPConn), newSchedule(f.random, f.faults.Load() && f.random.IntN(2) == 0)}
}

func (f *faulty) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return f.wrap(c), nil
}

type faultyListener struct {
	net.Listener
	*faulty
}

func (l faultyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// transportNames are those of the built-in transports.
var transportNames = []string{"plain", "reverse", "mux", "obfs4", "shadowsocks", "webtunnel"}

// newFaultPair returns a pair whose network connections have schedules.
func newFaultPair(t *testing.T, name string, client, server transport.CompileOptions) *faultPair {
	f := &faulty{random: rand.New(rand.NewPCG(*faultSeed, 0))}
	pair := &faultPair{
		modulePair: newModulePairOn(t, name, transport.Config{Dial: f.dial}, faultyListener{listenLoopback(t), f}, client, server),
		faulty:     f,
		waiting:    map[string]chan net.Conn{},
	}
	go pair.accept()
	return pair
}

// run carries bytes by so many schedules, of which some fail if there are to be faults.
func (p *faultPair) run(t *testing.T, n int, faults bool) {
	t.Helper()
	p.faults.Store(faults)
	jobs := make(chan int)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range jobs {
				random := rand.New(rand.NewPCG(*faultSeed, uint64(i+1)))
				if err := p.carrySome(random, faults); err != nil {
					t.Errorf("schedule %d of seed %d, faults %v: %v", i, *faultSeed, faults, err)
				}
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	workers.Wait()
}

// TestEngineSchedules has each built-in transport but webtunnel run by the compiler on one side and by the
// interpreter on the other: all arrives, byte for byte, whatever the network cuts short. A
// difference between both would show in a MAC, a length or a byte.
func TestEngineSchedules(t *testing.T) {
	interpreted := transport.CompileOptions{Interpreter: true}
	for _, name := range transportNames {
		if name == "webtunnel" {
			continue // its handshake takes the interpreter seconds
		}
		t.Run(name, func(t *testing.T) {
			newFaultPair(t, name, interpreted, transport.CompileOptions{}).run(t, (*engineSchedules+1)/2, false)
			newFaultPair(t, name, transport.CompileOptions{}, interpreted).run(t, (*engineSchedules+1)/2, false)
		})
	}
}

// TestFaults has each built-in transport carry bytes over network connections that cut
// calls short, delay them, and fail: without a failure all arrives; with one, what arrives
// is the beginning of what was sent, and its end does not look like a good one. Nothing is
// left.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, name := range transportNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := newFaultPair(t, name, transport.CompileOptions{}, transport.CompileOptions{})
			for _, faults := range []bool{false, true} {
				pair.run(t, (*schedules+1)/2, faults)
			}
			for _, stats := range pair.stats() {
				if stats.Traps > 0 {
					t.Errorf("a module has failed: %+v", stats)
				}
			}
			// A session that streams have shared goes with the client.
			if err := pair.dialer.Close(); err != nil {
				t.Error(err)
			}
			// Those that have been closed may still drain.
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				stats := pair.stats()
				if stats[0].Connections == 0 && stats[1].Connections == 0 {
					break
				}
				if time.Since(began) > obfs4Patience {
					t.Errorf("connections are left: %+v", stats)
					break
				}
			}
		})
	}
}

// faultPair is a module as client and server, with connections that come side by side: the
// first bytes of each say which it is.
type faultPair struct {
	*modulePair
	*faulty
	mu      sync.Mutex
	waiting map[string]chan net.Conn
}

const idLength = 16

// accept gives the connections to those who wait for them, until the listener is closed.
func (p *faultPair) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			id := make([]byte, idLength)
			_, err := io.ReadFull(conn, id)
			p.mu.Lock()
			defer p.mu.Unlock()
			if arrived := p.waiting[string(id)]; err == nil && arrived != nil {
				arrived <- conn
			} else {
				conn.Close()
			}
		}()
	}
}

func (p *faultPair) expect(id string) chan net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[id] = make(chan net.Conn, 1)
	return p.waiting[id]
}

// forget closes a connection that comes later than anybody waits.
func (p *faultPair) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case conn := <-p.waiting[id]:
		conn.Close()
	default:
	}
	delete(p.waiting, id)
}

// carrySome carries some bytes each way over one connection.
func (p *faultPair) carrySome(random *rand.Rand, faults bool) error {
	up, down := someBytes(random), someBytes(random)
	id := fmt.Sprintf("%016x", random.Uint64())
	arrived := p.expect(id)
	defer p.forget(id)
	near, err := p.dialer.Dial(context.Background(), "tcp", p.listener.Addr().String(), p.args)
	if err != nil {
		if faults {
			return nil
		}
		return err
	}
	defer near.Close()
	piece := 1 + random.IntN(8<<10)
	sent, received := make(chan error, 1), make(chan carried, 1)
	go func() { sent <- sendAll(near, append([]byte(id), up...), piece) }()
	go func() { received <- receiveAll(near) }()
	var far net.Conn
	var last *carried // of near, if it came first
	select {
	case far = <-arrived:
	case o := <-received:
		last = &o
		select {
		case far = <-arrived: // and was through before anybody looked
		default:
			if !faults {
				return fmt.Errorf("it did not arrive: %w", o.err)
			}
			return nil
		}
	}
	defer far.Close()
	answered := make(chan error, 1)
	go func() { answered <- sendAll(far, down, piece) }()
	errs := []error{receiveAll(far).judge("up", up, faults)}
	for _, c := range []chan error{sent, answered} {
		if err := <-c; err != nil && !faults {
			errs = append(errs, err)
		}
	}
	if last == nil {
		o := <-received
		last = &o
	}
	return errors.Join(append(errs, last.judge("down", down, faults))...)
}

func someBytes(random *rand.Rand) []byte {
	b := make([]byte, random.IntN(1<<random.IntN(18)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// sendAll writes in pieces, and ends its direction.
func sendAll(c net.Conn, b []byte, piece int) error {
	for len(b) > 0 {
		n, err := c.Write(b[:min(len(b), piece)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

// carried is what came, and how it ended.
type carried struct {
	got []byte
	err error
}

func receiveAll(c net.Conn) (o carried) {
	_ = c.SetReadDeadline(time.Now().Add(obfs4Patience)) // one that is closed says so below
	o.got, o.err = io.ReadAll(c)
	return o
}

// judge is an error unless all has come, with a good end, or, where there are faults, the
// beginning of it, with a bad one.
func (o carried) judge(way string, want []byte, faults bool) error {
	what := fmt.Sprintf("%s: %d of %d bytes came", way, len(o.got), len(want))
	switch {
	case errors.Is(o.err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s, and no end", what)
	case !bytes.HasPrefix(want, o.got):
		return fmt.Errorf("%s, and they are others", what)
	case len(o.got) < len(want) && o.err == nil:
		return fmt.Errorf("%s, and then an end that looks like a good one", what)
	case o.err != nil && !faults:
		return fmt.Errorf("%s, and then %w", what, o.err)
	}
	return nil
}
