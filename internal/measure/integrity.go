package measure

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// maxPiece is the largest write and read of the integrity test; the sizes are
// random, so that every boundary a transport may have is crossed.
const maxPiece = 70_000

// CheckIntegrity sends size random bytes in writes of random lengths, has the
// far end send them back in other random lengths, and compares the SHA-256 of
// both. The seed makes a failure repeatable. It returns the rate in MB/s.
func CheckIntegrity(ctx context.Context, p *Path, size int, seed uint64, limit time.Duration) (float64, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer l.Abort()
	echoed := make(chan error, 1)
	go func() { echoed <- echoPieces(l, rand.New(rand.NewPCG(seed, 1)), size) }()
	wrote := make(chan error, 1)
	sum := sha256.New()
	go func() {
		random := rand.New(rand.NewPCG(seed, 2))
		buf := make([]byte, maxPiece)
		for left := size; left > 0; {
			piece := buf[:min(1+random.IntN(maxPiece), left)]
			fill(random, piece)
			sum.Write(piece)
			if _, err := l.Near.Write(piece); err != nil {
				wrote <- err
				return
			}
			left -= len(piece)
		}
		wrote <- nil
	}()
	rate, err := within(ctx, limit, l.Abort, func() (float64, error) {
		begin := time.Now()
		random := rand.New(rand.NewPCG(seed, 3))
		back := sha256.New()
		buf := make([]byte, maxPiece)
		for got := 0; got < size; {
			n, err := l.Near.Read(buf[:min(1+random.IntN(maxPiece), size-got)])
			back.Write(buf[:n])
			got += n
			if err != nil && got < size {
				return 0, fmt.Errorf("%d of %d bytes came back: %w", got, size, err)
			}
		}
		rate := float64(size) / 1e6 / time.Since(begin).Seconds()
		if err := <-wrote; err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		if err := <-echoed; err != nil {
			return 0, fmt.Errorf("far end: %w", err)
		}
		if [sha256.Size]byte(sum.Sum(nil)) != [sha256.Size]byte(back.Sum(nil)) {
			return 0, fmt.Errorf("%w: SHA-256 differs", ErrLost)
		}
		return rate, nil
	})
	if err != nil {
		return 0, fmt.Errorf("integrity, seed %d: %w", seed, err)
	}
	return rate, nil
}

// echoPieces sends size bytes back as they come, in pieces of random length.
func echoPieces(l *Link, random *rand.Rand, size int) error {
	buf := make([]byte, maxPiece)
	for left := size; left > 0; {
		n, err := l.Far.Read(buf[:min(1+random.IntN(maxPiece), left)])
		left -= n
		for out := buf[:n]; len(out) > 0; {
			piece := min(1+random.IntN(maxPiece), len(out))
			if _, err := l.Far.Write(out[:piece]); err != nil {
				return err
			}
			out = out[piece:]
		}
		if err == io.EOF && left == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
