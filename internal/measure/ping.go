package measure

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// pingSize is the length of a round trip's message, and echoBuffer the size of
// the far end's buffer, of which there may be a thousand.
const (
	pingSize   = 64
	echoBuffer = 4 << 10
)

// MeasurePings sends n messages of 64 bytes over one connection, each after the
// echo of the one before has arrived whole, and times each round trip.
func MeasurePings(ctx context.Context, p *Path, n int) (Spread, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return Spread{}, err
	}
	defer l.Abort()
	go echo(l.Far)
	return within(ctx, p.Timeout+time.Duration(n)*10*time.Millisecond, l.Abort, func() (Spread, error) {
		took := make([]time.Duration, 0, n)
		for i := range n {
			d, err := roundTrip(l.Near, uint64(i+1))
			if err != nil {
				return Spread{}, fmt.Errorf("round trip %d: %w", i+1, err)
			}
			took = append(took, d)
		}
		return spread(took), nil
	})
}

// roundTrip sends one message, different for each seed, and waits for its echo.
func roundTrip(c net.Conn, seed uint64) (time.Duration, error) {
	var sent, back [pingSize]byte
	for at := 0; at < pingSize; at += 8 {
		binary.LittleEndian.PutUint64(sent[at:], seed*0x9e3779b97f4a7c15+uint64(at))
	}
	begin := time.Now()
	if _, err := c.Write(sent[:]); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	if _, err := io.ReadFull(c, back[:]); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	took := time.Since(begin)
	if sent != back {
		return 0, fmt.Errorf("%w: other bytes came back", ErrLost)
	}
	return took, nil
}

// echo sends back what comes until the connection ends, which is how its caller
// stops it; the caller sees at the other end whatever goes wrong here.
func echo(c net.Conn) {
	buf := make([]byte, echoBuffer)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
