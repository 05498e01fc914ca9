package transport

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// For the long version, which reports the resident memory as well:
//
//	go test ./transport -run TestChurn -timeout 2h -v -churn.conns 100000
var churnConns = flag.Int("churn.conns", pttest.Count(2000, 1000), "connections that TestChurn opens and closes")

// TestChurn opens and closes many connections: nothing may be left of them.
func TestChurn(t *testing.T) {
	var links []link
	for _, name := range []string{"plain_v0", "plain_v1", "posix_v1"} {
		cfg := quietConfig(t, name)
		links = append(links, clientLink(t, cfg), serverLink(t, cfg))
	}
	// The standard compiler's modules take longer: one link in seven.
	links = append(links, clientLink(t, quietConfig(t, "plain")))
	churn := func(n int) {
		var next atomic.Int64
		var workers sync.WaitGroup
		for range 16 {
			workers.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					if err := churnOne(t.Context(), links[i%int64(len(links))], int(i)); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
				}
			})
		}
		workers.Wait()
	}
	churn(100) // what is made once and kept
	before := usage(t)
	for step := range 10 {
		churn(*churnConns / 10)
		t.Logf("%d: %s", (step+1)*(*churnConns/10), usage(t))
	}
	waitForUsage(t, before)
}

func churnOne(ctx context.Context, l link, i int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	near, far, err := l(ctx)
	if err != nil {
		return err
	}
	far.SetDeadline(time.Now().Add(patience))
	near.SetDeadline(time.Now().Add(patience))
	p := pattern(i)
	if _, err := p.write(near, 100, always(100)); err != nil {
		return err
	}
	if n, err := p.check(far, 100, always(100)); err != nil || n != 100 {
		return errors.Join(err, errors.New("lost bytes"))
	}
	switch i % 4 {
	case 0:
		near.Abort()
		far.Close()
	case 1:
		far.Close()
		near.Close()
	case 2:
		err := together(near.Close, func() error {
			_, err := p.check(far, -1, always(100))
			return errors.Join(err, far.Close())
		})
		if err != nil {
			return err
		}
	case 3:
		abort(far)
		near.Close()
	}
	select {
	case <-near.Done():
		return nil
	case <-ctx.Done():
		return errors.New("it did not end")
	}
}

// resources is what a process must not lose.
type resources struct{ goroutines, files, rss int }

func (r resources) String() string {
	return "goroutines " + strconv.Itoa(r.goroutines) + ", files " + strconv.Itoa(r.files) + ", RSS " + strconv.Itoa(r.rss>>10) + " KiB"
}

func usage(t testing.TB) (r resources) {
	t.Helper()
	runtime.GC()
	r.goroutines = runtime.NumGoroutine()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	r.files = len(files)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	r.rss = pages * os.Getpagesize()
	return r
}

// waitForUsage waits until no more is in use than before.
func waitForUsage(t *testing.T, before resources) {
	t.Helper()
	var now resources
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		now = usage(t)
		if now.goroutines <= before.goroutines && now.files <= before.files {
			return
		}
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("before: %v; after: %v\n%.5000s", before, now, stacks[:runtime.Stack(stacks, true)])
}

// TestCancelledDials cancels at random moments: what comes back is a connection
// that works or an error, and nothing is left.
func TestCancelledDials(t *testing.T) {
	for _, name := range []string{"plain_v1", "framed_v1", "plain"} {
		t.Run(name, func(t *testing.T) {
			cfg := quietConfig(t, name)
			d, err := NewRuntimeConnDialer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var l net.Listener = loopback(t)
			if transforms(name) {
				if l, err = Listen(t.Context(), cfg, l); err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			go func() { // an echo server
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						var b [1]byte
						if n, _ := c.Read(b[:]); n == 1 {
							c.Write(b[:])
							c.Read(b[:])
						}
					}()
				}
			}()
			// What is made once and kept, the poller for one.
			first, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			first.Abort()
			before := usage(t)
			var worked, failed atomic.Int64
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for range 25 {
						ctx, cancel := context.WithCancel(context.Background())
						timer := time.AfterFunc(time.Duration(rand.IntN(8_000))*time.Microsecond, cancel)
						c, err := d.DialContext(ctx, "tcp", l.Addr().String())
						if err != nil {
							failed.Add(1)
							if !errors.Is(err, context.Canceled) {
								t.Errorf("cancelled, but: %v", err)
							}
							timer.Stop()
							cancel()
							continue
						}
						worked.Add(1)
						cancel() // has no effect any more
						c.SetDeadline(time.Now().Add(patience))
						b := []byte{1}
						if _, err := c.Write(b); err != nil {
							t.Error(err)
						}
						if _, err := c.Read(b); err != nil {
							t.Error(err)
						}
						c.Close()
						<-c.Done()
						timer.Stop()
					}
				})
			}
			workers.Wait()
			t.Logf("%d dials worked, %d were cancelled", worked.Load(), failed.Load())
			waitForUsage(t, before)
		})
	}
}
