package stream

import (
	"os"
	"testing"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }

// pieces cuts b into iovecs of the given sizes, and one of the rest.
func pieces(b []byte, sizes ...int) (bufs [][]byte) {
	for _, n := range sizes {
		n = min(n, len(b))
		bufs = append(bufs, b[:n])
		b = b[n:]
	}
	return append(bufs, b)
}

// numbers returns n bytes in which a loss or an exchange shows.
func numbers(start, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		k := start + i
		b[i] = byte(k) ^ byte(k>>8)*31 ^ byte(k>>16)*77
	}
	return b
}
