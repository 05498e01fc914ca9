package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// closeLimit is how long one write-then-close may take to arrive.
const closeLimit = 5 * time.Second

// CheckClosing writes size bytes at one end (the near one for Up) of a fresh
// connection and closes that end at once, and does so tries times. It returns
// how often the other end got every byte, unchanged, and then the end of the
// stream; and an error unless that is every time.
func CheckClosing(ctx context.Context, p *Path, d Direction, size, tries int) (complete int, err error) {
	sent := incompressible(size)
	var first error
	for range tries {
		err := closeOnce(ctx, p, d, sent)
		if ctx.Err() != nil {
			return complete, ctx.Err()
		}
		switch {
		case err == nil:
			complete++
		case first == nil:
			first = err
		}
	}
	if complete < tries {
		return complete, fmt.Errorf("%d of %d complete; first failure: %w", complete, tries, first)
	}
	return complete, nil
}

func closeOnce(ctx context.Context, p *Path, d Direction, sent []byte) error {
	l, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer l.Abort()
	from, to := l.Near, l.Far
	if d == Down {
		from, to = l.Far, l.Near
	}
	// Both ends run at once. A Close that blocks must not hold up the reader, by
	// whose end alone the try is judged.
	wrote := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		from.Close()
		wrote <- err
	}()
	_, err = within(ctx, closeLimit, l.Abort, func() (struct{}, error) {
		return struct{}{}, expectExactly(to, sent)
	})
	if err != nil {
		select {
		case werr := <-wrote:
			if werr != nil {
				err = errors.Join(fmt.Errorf("write: %w", werr), err)
			}
		default:
		}
	}
	return err
}

// expectExactly reads the bytes of want and then the end of the stream.
func expectExactly(c net.Conn, want []byte) error {
	got, err := io.ReadAll(c)
	switch {
	case len(got) < len(want) && err == nil:
		return fmt.Errorf("%w: %d of %d bytes arrived", ErrLost, len(got), len(want))
	case len(got) < len(want):
		return fmt.Errorf("%w: %d of %d bytes arrived: %w", ErrLost, len(got), len(want), err)
	case !bytes.Equal(got, want):
		return fmt.Errorf("%w: other bytes arrived (%d for %d)", ErrLost, len(got), len(want))
	case err != nil:
		return fmt.Errorf("all bytes arrived, but not the end of the stream: %w", err)
	}
	return nil
}
