package transport

import (
	"io"
	"testing"
)

// TestTLS: a transport can use crypto/tls, and so goroutines, deadlines, time and
// random numbers.
func TestTLS(t *testing.T) {
	for _, name := range []string{"go/tlswrap", "go/tlswrap" + inOne} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, name)
			askAndAnswer(t, pairLink(t, cfg, cfg))
		})
	}
}

// TestUnknownHost: a module of the SDK runs where a host knows v1 only, has none of
// the files below /watm, and treats it like the published modules.
func TestUnknownHost(t *testing.T) {
	for _, name := range []string{"plain", "reverse", "go/tlswrap"} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, name)
			// A copy of its own: the change is seen by all users of a module.
			m, err := Compile(wasmOf(t, name), CompileOptions{CacheDir: cacheDir})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			shape := m.m.Shape()
			shape.Posix, shape.Many = false, nil
			cfg.Module = m
			askAndAnswer(t, pairLink(t, cfg, cfg))
		})
	}
}

// askAndAnswer sends a question, ends it, and gets an answer, each larger than what
// fits on the way.
func askAndAnswer(t *testing.T, l link) {
	t.Helper()
	near, far := l.connect(t)
	const size = 8 << 20
	question, answer := pattern(1), pattern(2)
	done := make(chan error, 1)
	go func() {
		_, err := question.write(near, size, always(64<<10))
		if err == nil {
			err = near.CloseWrite()
		}
		done <- err
	}()
	within(t, "the question", func() {
		if n, err := question.check(far, -1, always(32<<10)); n != size || err != nil {
			t.Errorf("%d bytes of the question arrived: %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	go func() {
		_, err := answer.write(far, size, always(64<<10))
		if err == nil {
			err = far.CloseWrite()
		}
		done <- err
	}()
	within(t, "the answer", func() {
		if n, err := answer.check(near, -1, always(32<<10)); n != size || err != nil {
			t.Errorf("%d bytes of the answer arrived: %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := near.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	})
}
