package measure

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"
)

// SlowOptions sets how slow the reader of [CheckSlowReader] is.
type SlowOptions struct {
	Size  int           // bytes to send
	Pause time.Duration // before the first read
	Burst int           // bytes read between two short pauses
	Nap   time.Duration // a short pause
}

// Slow is the outcome of [CheckSlowReader].
type Slow struct {
	// Held is how many bytes the sender could hand over while the reader had not
	// read any: what the path and the kernel's buffers hold. A path without back
	// pressure holds everything.
	Held int64
}

// CheckSlowReader sends to a reader that pauses. All must arrive, unchanged, and
// then the end of the stream.
func CheckSlowReader(ctx context.Context, p *Path, d Direction, o SlowOptions) (Slow, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return Slow{}, err
	}
	defer l.Abort()
	from, to := l.Near, l.Far
	if d == Down {
		from, to = l.Far, l.Near
	}
	var accepted atomic.Int64
	type sender struct {
		sum [sha256.Size]byte
		err error
	}
	done := make(chan sender, 1)
	go func() {
		sum, err := sendAll(from, o.Size, &accepted)
		done <- sender{sum, err}
		from.Close()
	}()
	limit := o.Pause + time.Duration(o.Size/o.Burst)*o.Nap + 30*time.Second
	return within(ctx, limit, l.Abort, func() (Slow, error) {
		time.Sleep(o.Pause)
		s := Slow{Held: accepted.Load()}
		sum, err := readSlowly(to, o)
		if err != nil {
			select {
			case sent := <-done:
				if sent.err != nil {
					err = errors.Join(fmt.Errorf("write: %w", sent.err), err)
				}
			default:
			}
			return s, err
		}
		sent := <-done
		if sent.err != nil {
			return s, fmt.Errorf("write: %w", sent.err)
		}
		if sum != sent.sum {
			return s, fmt.Errorf("%w: SHA-256 differs", ErrLost)
		}
		return s, nil
	})
}

func sendAll(w io.Writer, size int, accepted *atomic.Int64) ([sha256.Size]byte, error) {
	random := rand.New(rand.NewPCG(3, 4))
	chunk := make([]byte, 32<<10)
	sum := sha256.New()
	for left := size; left > 0; left -= len(chunk) {
		chunk = chunk[:min(len(chunk), left)]
		fill(random, chunk)
		sum.Write(chunk)
		n, err := w.Write(chunk)
		accepted.Add(int64(n))
		if err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	return [sha256.Size]byte(sum.Sum(nil)), nil
}

// readSlowly reads to the end of the stream, with a nap after each burst.
func readSlowly(c net.Conn, o SlowOptions) ([sha256.Size]byte, error) {
	var none [sha256.Size]byte
	sum := sha256.New()
	total := int64(0)
	for {
		n, err := io.CopyN(sum, c, int64(o.Burst))
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return none, fmt.Errorf("%w: %d of %d bytes arrived: %w", ErrLost, total, o.Size, err)
		}
		time.Sleep(o.Nap)
	}
	if total != int64(o.Size) {
		return none, fmt.Errorf("%w: %d of %d bytes arrived", ErrLost, total, o.Size)
	}
	return [sha256.Size]byte(sum.Sum(nil)), nil
}
