package measure

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStalled is in the chain of the error of a transfer in which nothing more
// arrived although not everything had.
var ErrStalled = errors.New("stalled")

// ErrLost is in the chain of an error that means that bytes were sent and
// accepted but did not arrive, or that others arrived.
var ErrLost = errors.New("bytes lost or added")

// stallLimit is how long nothing may arrive before a transfer of the suite is
// given up.
const stallLimit = 5 * time.Second

// readBuffer is the size of the receiving buffers of bulk transfers.
const readBuffer = 128 << 10

// Direction is the way of a bulk transfer.
type Direction int

// The directions. Up is from the near end to the origin.
const (
	Up Direction = 1 << iota
	Down
	Duplex = Up | Down
)

// BulkOptions sizes a bulk transfer.
type BulkOptions struct {
	Direction Direction
	Conns     int           // connections at once
	Size      int64         // stop sending after so many bytes in all
	Limit     time.Duration // or after this time
	Chunk     int           // bytes per write
	Stall     time.Duration // give up when nothing arrives for so long
}

// Bulk is the outcome of [MeasureBulk].
type Bulk struct {
	Bytes  int64         // sent and received
	Took   time.Duration // from the first write to the last byte received
	Client time.Duration // processor time, zero without such a process
	Server time.Duration
}

// MBps is the rate in 10^6 bytes per second.
func (b Bulk) MBps() float64 { return float64(b.Bytes) / 1e6 / b.Took.Seconds() }

// flow is one direction of one link.
type flow struct {
	from, to net.Conn
}

// transfer is the state that the senders and receivers of a bulk run share.
type transfer struct {
	budget    atomic.Int64 // bytes that may still be sent
	sent      atomic.Int64 // accepted by Write
	received  atomic.Int64
	last      atomic.Int64  // when the last byte arrived, in ns since begin
	sending   atomic.Int64  // senders that have not finished
	receiving atomic.Int64  // receivers whose connection has not ended
	over      chan struct{} // closed when no more can arrive
	once      sync.Once
	errs      chan error
	begin     time.Time
	deadline  time.Time
}

// MeasureBulk opens all the connections, then sends in the given direction as
// fast as they take it, and stops the clock at the arrival of the last byte of
// all that was sent. Whatever was sent and did not arrive is an error.
func MeasureBulk(ctx context.Context, p *Path, o BulkOptions) (Bulk, error) {
	links, err := p.OpenAll(ctx, o.Conns)
	defer func() { abortAll(links) }()
	if err != nil {
		return Bulk{}, err
	}
	var flows []flow
	for _, l := range links {
		if o.Direction&Up != 0 {
			flows = append(flows, flow{l.Near, l.Far})
		}
		if o.Direction&Down != 0 {
			flows = append(flows, flow{l.Far, l.Near})
		}
	}
	t := &transfer{over: make(chan struct{}), errs: make(chan error, 2*len(flows))}
	t.budget.Store(o.Size)
	t.sending.Store(int64(len(flows)))
	t.receiving.Store(int64(len(flows)))

	client0, server0, err := p.cpu()
	if err != nil {
		return Bulk{}, err
	}
	t.begin = time.Now()
	t.deadline = t.begin.Add(o.Limit)
	for _, f := range flows {
		go t.receive(f.to)
		go t.send(f.from, o.Chunk)
	}
	err = t.wait(ctx, o.Stall)
	client1, server1, cpuErr := p.cpu()
	b := Bulk{
		Bytes:  t.received.Load(),
		Took:   time.Duration(t.last.Load()),
		Client: client1 - client0,
		Server: server1 - server0,
	}
	switch {
	case err == nil && b.Bytes == 0:
		err = errors.New("nothing was sent")
	case err != nil && b.Bytes > 0:
		err = fmt.Errorf("%w (%.0f MB/s until then)", err, b.MBps())
	}
	return b, errors.Join(err, cpuErr)
}

// send writes chunks while the shared budget and the time last.
func (t *transfer) send(w io.Writer, size int) {
	defer func() {
		t.sending.Add(-1)
		t.check()
	}()
	chunk := incompressible(size)
	for time.Now().Before(t.deadline) {
		left := t.budget.Add(-int64(size))
		n := int64(size) + min(left, 0)
		if n <= 0 {
			return
		}
		done, err := w.Write(chunk[:n])
		t.sent.Add(int64(done))
		if err != nil {
			t.errs <- fmt.Errorf("write: %w", err)
			return
		}
	}
}

// receive counts what comes until the connection ends.
func (t *transfer) receive(r io.Reader) {
	buf := make([]byte, readBuffer)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			t.last.Store(int64(time.Since(t.begin)))
			t.received.Add(int64(n))
			t.check()
		}
		if err != nil {
			t.errs <- fmt.Errorf("read: %w", err)
			t.receiving.Add(-1)
			t.check()
			return
		}
	}
}

// check ends the transfer once every sender has finished and either as much has
// arrived as was sent or every connection has ended. The order matters: a sender
// counts what it sent before it finishes.
func (t *transfer) check() {
	if t.sending.Load() == 0 && (t.received.Load() >= t.sent.Load() || t.receiving.Load() == 0) {
		t.once.Do(func() { close(t.over) })
	}
}

// wait returns when the transfer is over, and reports an error unless all of it
// has arrived.
func (t *transfer) wait(ctx context.Context, stall time.Duration) error {
	ticker := time.NewTicker(stall/20 + 1)
	defer ticker.Stop()
	var first error
	for {
		var end error
		select {
		case <-t.over:
			select {
			case err := <-t.errs: // sent before it was over, not seen yet
				if first == nil {
					first = err
				}
			default:
			}
			return errors.Join(first, t.shortfall())
		case err := <-t.errs:
			// A connection that ends before everything has arrived. Others may
			// go on: let them, so that the count of what is lost is right.
			if first == nil {
				first = err
			}
			continue
		case <-ticker.C:
			if quiet := time.Since(t.begin) - time.Duration(t.last.Load()); quiet < stall {
				continue
			}
			end = ErrStalled
		case <-ctx.Done():
			end = ctx.Err()
		}
		return errors.Join(first, end, t.shortfall())
	}
}

// shortfall tells how far what arrived is from what was sent, nil if it is not.
func (t *transfer) shortfall() error {
	got, sent := t.received.Load(), t.sent.Load()
	if got == sent {
		return nil
	}
	return fmt.Errorf("%w: %d of %d bytes arrived", ErrLost, got, sent)
}

// cpu reads the processor time of both processes.
func (p *Path) cpu() (client, server time.Duration, err error) {
	if p.Client != nil {
		if client, err = p.Client.CPU(); err != nil {
			return 0, 0, err
		}
	}
	if p.Server != nil {
		if server, err = p.Server.CPU(); err != nil {
			return 0, 0, err
		}
	}
	return client, server, nil
}

// incompressible returns n bytes that no transport can shorten.
func incompressible(n int) []byte {
	b := make([]byte, n)
	fill(rand.New(rand.NewPCG(1, 2)), b)
	return b
}

// fill overwrites b with random bytes.
func fill(r *rand.Rand, b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, r.Uint64())
		b = b[8:]
	}
	if len(b) > 0 {
		var rest [8]byte
		binary.LittleEndian.PutUint64(rest[:], r.Uint64())
		copy(b, rest[:])
	}
}
