package transport

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// keepOpen is the test module that has failed connections kept open.
const keepOpen = "go/keepopen"

// holdingConfig is that of a server that keeps failed connections for a time.
func holdingConfig(t *testing.T, d time.Duration) Config {
	cfg := testConfig(t, keepOpen+inOne)
	cfg.ModuleConfig = []byte(d.String())
	return cfg
}

// visitor is somebody who connects to a listener.
type visitor struct {
	*net.TCPConn
	ended chan end
}

// end is that of a connection, as a visitor sees it.
type end struct {
	after time.Duration
	bytes int64
	err   error
}

// visit connects to a listener, and says something.
func visit(t *testing.T, l *Listener, line string) *visitor {
	t.Helper()
	began := time.Now()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{conn.(*net.TCPConn), make(chan end, 1)}
	t.Cleanup(func() { v.Close() })
	if _, err := io.WriteString(v, line); err != nil {
		t.Fatal(err)
	}
	go func() {
		n, err := io.Copy(io.Discard, v)
		v.ended <- end{time.Since(began), n, err}
	}()
	return v
}

// goOn sends more: bytes that nobody reads would make the end a reset.
func (v *visitor) goOn(t *testing.T) {
	t.Helper()
	if _, err := v.Write(make([]byte, 50_000)); err != nil {
		t.Error(err)
	}
}

// closedAfter waits for the end, which must be a clean one, and says when it came.
func (v *visitor) closedAfter(t *testing.T) time.Duration {
	t.Helper()
	select {
	case e := <-v.ended:
		if e.bytes > 0 || e.err != nil {
			t.Errorf("%d bytes came, and %v; want a clean end", e.bytes, e.err)
		}
		return e.after
	case <-time.After(patience):
		t.Error("the connection stays open")
		return 0
	}
}

// checkOpen fails the test if the connection ends within a moment.
func (v *visitor) checkOpen(t *testing.T) {
	t.Helper()
	select {
	case e := <-v.ended:
		t.Errorf("the connection has ended: %+v", e)
	case <-time.After(100 * time.Millisecond):
	}
}

// accepted takes the connection of one who says go.
func accepted(t *testing.T, l *Listener) Conn {
	t.Helper()
	conn, err := l.AcceptRuntime()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Abort() })
	return conn
}

// awaitFailure waits until an instance has failed.
func awaitFailure(t *testing.T, l *Listener) {
	t.Helper()
	awaitFigures(t, l, func(s figures) bool { return s.Failures == 1 && s.Connections == 0 })
}

const holding = 2 * time.Second

// TestHoldAfterFailure: when an instance fails, those whose set-up is under way see
// nothing of that before their time has come. Meanwhile others are served.
func TestHoldAfterFailure(t *testing.T) {
	for _, how := range []string{"crash", "kill"} {
		t.Run(how, func(t *testing.T) {
			l := listen(t, holdingConfig(t, holding))
			visitors := []*visitor{visit(t, l, ""), visit(t, l, "a line that does not end")}
			awaitFigures(t, l, func(s figures) bool { return s.Connections == 2 })
			if how == "crash" {
				visitors = append(visitors, visit(t, l, "crash\n"))
			} else {
				p := l.generations.now().pool
				await(t, "the module's wish", func() bool { return p.keepOpen() == holding })
				p.mu.Lock()
				in := p.members[0].in
				p.mu.Unlock()
				in.Abort(errors.New("it was killed by the test"))
			}
			awaitFailure(t, l)
			for _, v := range visitors {
				v.goOn(t)
			}
			visit(t, l, "go\n")
			accepted(t, l)
			for _, v := range visitors {
				if after := v.closedAfter(t); after < holding {
					t.Errorf("a connection was closed after %v, and was to be held for %v", after, holding)
				}
			}
		})
	}
}

// TestHoldAtLimit: who comes when the instance has all its connections waits as well.
func TestHoldAtLimit(t *testing.T) {
	cfg := holdingConfig(t, holding)
	cfg.MaxConns = 1
	l := listen(t, cfg)
	visit(t, l, "go\n")
	accepted(t, l)
	var visitors []*visitor
	for _, line := range []string{"", "go\n", "fail\n"} {
		visitors = append(visitors, visit(t, l, line))
	}
	for _, v := range visitors {
		v.goOn(t)
	}
	for _, v := range visitors {
		if after := v.closedAfter(t); after < holding {
			t.Errorf("a connection was closed after %v, and was to be held for %v", after, holding)
		}
	}
	if got, want := figuresOf(l), (figures{Instances: 1, Connections: 1}); got != want {
		t.Errorf("there are %+v, want %+v", got, want)
	}
}

// TestHoldAfterTimeout: a set-up that takes too long is no reason to close earlier.
func TestHoldAfterTimeout(t *testing.T) {
	cfg := holdingConfig(t, holding)
	cfg.SetupTimeout = 500 * time.Millisecond
	l := listen(t, cfg)
	v := visit(t, l, "")
	awaitStats(t, l, func(s Stats) bool { return s.Refused == 1 })
	if after := v.closedAfter(t); after < holding {
		t.Errorf("the connection was closed after %v, and was to be held for %v", after, holding)
	}
}

// TestHoldNotForFail: what the module decides is carried out at once.
func TestHoldNotForFail(t *testing.T) {
	l := listen(t, holdingConfig(t, time.Hour))
	visit(t, l, "fail\n").closedAfter(t)
}

// TestHoldEnds: a connection is held no longer than its peer wants it, or the
// listener lives.
func TestHoldEnds(t *testing.T) {
	l := listen(t, holdingConfig(t, time.Hour))
	stays, leaves := visit(t, l, ""), visit(t, l, "")
	awaitFigures(t, l, func(s figures) bool { return s.Connections == 2 })
	visit(t, l, "crash\n")
	awaitFailure(t, l)
	stays.checkOpen(t)
	leaves.checkOpen(t)
	leaves.goOn(t)
	if err := leaves.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	leaves.closedAfter(t)
	stays.checkOpen(t)
	within(t, "Close", func() { l.Close() })
	stays.closedAfter(t)
}

// TestNoHold: a module that has not asked for it has failed connections closed.
func TestNoHold(t *testing.T) {
	l := listen(t, testConfig(t, faults+inOne))
	v := visit(t, l, "")
	awaitFigures(t, l, func(s figures) bool { return s.Connections == 1 })
	visit(t, l, "setup=crash\n")
	v.closedAfter(t)
}
