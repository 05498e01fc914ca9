package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"

	"waterproxy/transport/testmodules"
)

// TestThreads has a module try what threads can do.
func TestThreads(t *testing.T) {
	for _, engine := range []string{"compiler", "interpreter"} {
		t.Run(engine, func(t *testing.T) {
			cfg := testConfig(t, "workers_v1")
			cfg.Module = compile(t, "probe_threads", engine == "interpreter")
			cfg.MaxMemory = 2 << 20
			cfg.MaxThreads = 8
			near, _ := clientLink(t, cfg).connect(t)
			near.SetDeadline(time.Now().Add(patience))
			report, err := io.ReadAll(near)
			if err != nil {
				t.Error(err)
			}
			want := strings.Repeat("start: 0\n", 4) + "mutex: 80000\natomic: 80000\nown: 5\n" +
				strings.Repeat("start: 0\n", 4) + "woken: 4\nnobody: 0\n" +
				"not equal: 1\ntimed out: 2\ntime passed: 1\nwait64: 0\nwait64 not equal: 1\n" +
				"grown: 0\nread into it: 0\nbeyond the limit: -1\n" +
				"close: 0\nblocked read: 0\nat once: 8\nwoken: 8\nend\n"
			if string(report) != want {
				t.Errorf("the module reports\n%s\nwant\n%s", report, want)
			}
		})
	}
}

// TestThreadsAtLimit: a thread that the module has joined does not count any more, and
// the limit holds for threads that never call the host.
func TestThreadsAtLimit(t *testing.T) {
	for _, engine := range []string{"compiler", "interpreter"} {
		for _, limit := range []uint32{1, 2, 8} {
			t.Run(fmt.Sprint(engine, limit), func(t *testing.T) {
				cfg := testConfig(t, "workers_v1")
				cfg.Module = compile(t, "probe_threads_limit", engine == "interpreter")
				cfg.MaxThreads = int(limit)
				near, _ := clientLink(t, cfg).connect(t)
				report, err := io.ReadAll(near)
				if err != nil {
					t.Fatal(err)
				}
				var got struct{ AtOnce, Refused, AtOnceAgain uint32 }
				if _, err := binary.Decode(report, binary.LittleEndian, &got); err != nil {
					t.Fatal(err)
				}
				if got.AtOnce != limit || got.Refused != 0 || got.AtOnceAgain != limit {
					t.Errorf("%+v at a limit of %d", got, limit)
				}
			})
		}
	}
}

// TestThreadsCipher: each direction is ChaCha20 with a key of its own, whatever the
// number of threads.
func TestThreadsCipher(t *testing.T) {
	for _, config := range []string{"", "workers 1\n"} {
		cfg := testConfig(t, "threads")
		cfg.ModuleConfig = []byte(config)
		near, far := clientLink(t, cfg).connect(t)
		text := bytes.Repeat(pattern(1).bytes(1000), 300)
		key := make([]byte, chacha20.KeySize)
		if _, err := rand.Read(key); err != nil {
			t.Fatal(err)
		}
		err := together(
			func() error { // towards the network
				_, err := near.Write(text)
				return errors.Join(err, near.CloseWrite())
			},
			func() error {
				all, err := io.ReadAll(far)
				if len(all) < chacha20.KeySize {
					return errors.Join(err, errors.New("there is no key"))
				}
				if got := decrypted(t, all[:chacha20.KeySize], all[chacha20.KeySize:]); !bytes.Equal(got, text) {
					t.Error("other bytes arrive in the network")
				}
				return err
			},
			func() error { // from it, in odd pieces
				wire := append(bytes.Clone(key), decrypted(t, key, text)...)
				for n := 1; len(wire) > 0; n = n*2 + 1 {
					if _, err := far.Write(wire[:min(n, len(wire))]); err != nil {
						return err
					}
					wire = wire[min(n, len(wire)):]
				}
				return far.CloseWrite()
			},
			func() error {
				got, err := io.ReadAll(near)
				if !bytes.Equal(got, text) {
					t.Error("other bytes arrive from the network")
				}
				return err
			})
		if err != nil {
			t.Error(err)
		}
		within(t, "the end", func() { <-near.Done() })
		if err := near.Err(); err != nil {
			t.Error(err)
		}
	}
}

func decrypted(t *testing.T, key, wire []byte) []byte {
	c, err := chacha20.NewUnauthenticatedCipher(key, make([]byte, chacha20.NonceSize))
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, len(wire))
	c.XORKeyStream(text, wire)
	return text
}

// TestThreadsEnd: within a second of a connection's end its threads are gone,
// wherever they are.
func TestThreadsEnd(t *testing.T) {
	for _, name := range []string{"threads", "workers_v1", "evil_threads_wait", "evil_threads_read", "evil_threads_bomb", "evil_threads_spin"} {
		t.Run(name, func(t *testing.T) {
			l := clientLink(t, quietConfig(t, name))
			before := usage(t)
			for _, end := range []func(Conn, duplex){
				func(near Conn, _ duplex) { near.Abort() },
				func(near Conn, far duplex) { far.Close(); near.Close() },
			} {
				near, far := l.connect(t)
				time.Sleep(50 * time.Millisecond) // threads start
				if strings.HasPrefix(name, "evil") {
					end = func(near Conn, _ duplex) { near.Abort() } // it takes no part in closing
				}
				end(near, far)
				within(t, "the end", func() { <-near.Done() })
				far.Close()
			}
			waitForUsage(t, before)
		})
	}
}

// TestThreadsMany: an instance that serves many connections can have threads, too.
func TestThreadsMany(t *testing.T) {
	cfg := quietConfig(t, "probe_workers_many"+inOne)
	l := loopback(t)
	before := usage(t)
	d, err := NewRuntimeDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 16 {
		users.Go(func() {
			for range 20 {
				_, err := d.Dial(t.Context(), "tcp", l.Addr().String(), nil)
				if err == nil || !strings.Contains(err.Error(), "refused") {
					t.Errorf("the module does not refuse: %v", err)
				}
			}
		})
	}
	users.Wait()
	within(t, "Close", func() { err = d.Close() })
	if err != nil {
		t.Error(err)
	}
	waitForUsage(t, before)
}

// TestThreadLimit: a module that has background workers gets as many as it wants,
// or fails.
func TestThreadLimit(t *testing.T) {
	cfg := testConfig(t, "workers_v1")
	cfg.MaxThreads = 1
	near, far := clientLink(t, cfg).connect(t)
	far.Close()
	within(t, "the end", func() { <-near.Done() })
	if err := near.Err(); !errors.Is(err, ErrLimit) {
		t.Errorf("it ended with %v", err)
	}
	cfg.MaxThreads = -1
	if err := cfg.Validate(); !errors.Is(err, ErrConfig) {
		t.Errorf("a negative limit: %v", err)
	}
}

// TestThreadsMemory: the limit holds for a memory that is shared.
func TestThreadsMemory(t *testing.T) {
	cfg := testConfig(t, "threads")
	cfg.MaxMemory = 64 << 10
	_, err := NewRuntimeConnDialer(cfg)
	if err == nil {
		_, _, err = clientLink(t, cfg)(t.Context())
	}
	if !errors.Is(err, ErrLimit) {
		t.Errorf("error %v", err)
	}
}

// TestSharedMemoryErrors: why a module with a shared memory can't run.
func TestSharedMemoryErrors(t *testing.T) {
	noMaximum := []byte("\x00asm\x01\x00\x00\x00\x05\x03\x01\x02\x01")
	for _, test := range []struct {
		wasm []byte
		why  string
	}{
		{noMaximum, "maximum"},
		{testmodules.Load(t, "evil_threads_private"), "no shared memory"},
		{testmodules.Load(t, "evil_threads_imported"), "no shared memory"},
		{testmodules.Load(t, "evil_threads_nostart"), "wasi_thread_start"},
		{testmodules.Load(t, "evil_threads_half_worker"), "watm_background_worker_v1"},
	} {
		_, err := Compile(test.wasm, CompileOptions{})
		if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), test.why) {
			t.Errorf("the error says nothing of %s: %v", test.why, err)
		}
	}
}

// TestThreadsChurn opens and closes a thousand connections with two workers each.
func TestThreadsChurn(t *testing.T) {
	links := []link{
		pairLink(t, quietConfig(t, "threads"), quietConfig(t, "threads")),
		clientLink(t, quietConfig(t, "workers_v1")),
		serverLink(t, quietConfig(t, "workers_v1")),
	}
	churn := func(n int) {
		var next atomic.Int64
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					if err := churnOne(t.Context(), links[i%int64(len(links))], int(i)); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
				}
			})
		}
		users.Wait()
	}
	churn(100) // what is made once and kept
	before := usage(t)
	churn(1000)
	waitForUsage(t, before)
}
