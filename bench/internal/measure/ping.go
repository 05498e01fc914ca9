package measure

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// pingSize is the length of a round trip's message.
const pingSize = 64

// Pings is the outcome of [MeasurePings].
type Pings struct {
	P50, P99 time.Duration
}

// MeasurePings sends n messages of 64 bytes over one connection, each after the
// echo of the one before has arrived whole, and times each round trip.
func MeasurePings(ctx context.Context, p *Path, n int) (Pings, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return Pings{}, err
	}
	defer l.Abort()
	go echo(l.Far)
	return within(ctx, p.Timeout+time.Duration(n)*10*time.Millisecond, l.Abort, func() (Pings, error) {
		took := make([]float64, 0, n)
		var sent, back [pingSize]byte
		for i := range n {
			for at := 0; at < pingSize; at += 8 {
				binary.LittleEndian.PutUint64(sent[at:], uint64(i+1)*0x9e3779b97f4a7c15+uint64(at))
			}
			begin := time.Now()
			if _, err := l.Near.Write(sent[:]); err != nil {
				return Pings{}, fmt.Errorf("round trip %d: write: %w", i+1, err)
			}
			if _, err := io.ReadFull(l.Near, back[:]); err != nil {
				return Pings{}, fmt.Errorf("round trip %d: read: %w", i+1, err)
			}
			took = append(took, float64(time.Since(begin)))
			if !bytes.Equal(sent[:], back[:]) {
				return Pings{}, fmt.Errorf("round trip %d: other bytes came back", i+1)
			}
		}
		return Pings{
			P50: time.Duration(Quantile(took, 0.5)),
			P99: time.Duration(Quantile(took, 0.99)),
		}, nil
	})
}

// echo sends back what comes until the connection ends, which is how its caller
// stops it; the caller sees at the other end whatever goes wrong here.
func echo(c net.Conn) {
	buf := make([]byte, 16<<10)
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
