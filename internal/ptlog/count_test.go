package ptlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"waterproxy/transport"
)

// counted returns a logger that counts, what it has written since the last call of
// lines, and its flush.
func counted() (log *slog.Logger, lines func() string, flush func()) {
	var buf lockedBuffer
	log, flush = count(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return log, buf.take, flush
}

// lockedBuffer is written to by timers as well.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if all := strings.Join(want, "\n"); strings.TrimSuffix(got, "\n") != all {
		t.Errorf("the log has\n%s\nwant\n%s", got, all)
	}
}

func TestCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines, flush := counted()
		log = log.With("transport", "a")
		fail := func(kind string, times int) {
			for i := range times {
				log.Warn("cannot connect", transport.KindKey, kind, "n", i)
			}
		}
		fail("refused", 10)
		fail("timed out", 3)
		expect(t, lines(),
			`level=WARN msg="cannot connect" transport=a kind=refused n=0`,
			`level=WARN msg="cannot connect" transport=a kind="timed out" n=0`)
		time.Sleep(countInterval - time.Nanosecond)
		synctest.Wait()
		expect(t, lines())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		expect(t, lines(), `level=WARN msg="11 more connections failed: refused (9), timed out (2)" transport=a`)

		// A line a minute, as long as it goes on.
		fail("refused", 1)
		time.Sleep(countInterval)
		synctest.Wait()
		expect(t, lines(), `level=WARN msg="1 more connection failed: refused" transport=a`)

		// After a pause the next one is written as it is.
		time.Sleep(countInterval)
		fail("timed out", 2)
		expect(t, lines(), `level=WARN msg="cannot connect" transport=a kind="timed out" n=0`)
		flush()
		expect(t, lines(), `level=WARN msg="1 more connection failed: timed out" transport=a`)
		flush()
		time.Sleep(10 * countInterval)
		synctest.Wait() // nothing is left that would write
		expect(t, lines())
	})
}

// Transports and levels are counted apart, a logger of the same transport is not, and
// records without a kind are all written.
func TestCountApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines, flush := counted()
		for _, name := range []string{"a", "b", "a"} {
			log := log.With("transport", name)
			log.Warn("x", transport.KindKey, "k")
			log.Info("x", transport.KindKey, "k")
			log.Info("no kind")
			log.Debug("x", transport.KindKey, "k")
		}
		expect(t, lines(),
			"level=WARN msg=x transport=a kind=k", "level=INFO msg=x transport=a kind=k", `level=INFO msg="no kind" transport=a`,
			"level=WARN msg=x transport=b kind=k", "level=INFO msg=x transport=b kind=k", `level=INFO msg="no kind" transport=b`,
			`level=INFO msg="no kind" transport=a`)
		flush()
		if got := lines(); strings.Count(got, "1 more connection failed: k") != 2 || strings.Contains(got, "transport=b") {
			t.Errorf("flushed: %s", got)
		}
	})
}

// The number of kinds is bounded.
func TestCountKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines, flush := counted()
		for i := range 10 * maxKinds {
			log.Warn("x", transport.KindKey, fmt.Sprint(i))
		}
		if got := strings.Count(lines(), "\n"); got != maxKinds+1 {
			t.Errorf("%d lines, want %d", got, maxKinds+1)
		}
		flush()
		expect(t, lines(), fmt.Sprintf(`level=WARN msg="%d more connections failed: other kinds (%[1]d)"`, 9*maxKinds-1))
	})
}

// Both ways to make a logger count.
func TestLoggersCount(t *testing.T) {
	dir := t.TempDir()
	text := said(t, func() {
		f := flags(t, "-log", "file")
		for _, open := range []func(string) (*slog.Logger, error){f.Open, f.ToTorAnd} {
			log, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				log.Warn("cannot connect", transport.KindKey, "refused")
			}
			f.Flush()
		}
	})
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, "2 more connections failed: refused (2)") {
		t.Errorf("tor gets %q", text)
	}
}
