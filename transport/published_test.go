package transport

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPublished(t *testing.T) {
	root := os.Getenv("PUBLISHED")
	files, _ := filepath.Glob(root + "/*/*/*/*.wasm")
	f2, _ := filepath.Glob(root + "/*/*/*/*/*.wasm")
	for _, f := range append(files, f2...) {
		t.Run(f[len(root):], func(t *testing.T) {
			m, err := CompileFile(f, CompileOptions{CacheDir: cacheDir})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(m.ABI(), m.Roles())
			cfg := Config{Module: m}
			d, err := NewRuntimeConnDialer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			l := loopback(t)
			t0 := time.Now()
			c, w, err := dialPair(t, d, l)
			if err != nil {
				t.Fatal(err)
			}
			t.Log("dial", time.Since(t0))
			data := make([]byte, 8<<20)
			rand.Read(data)
			done := make(chan error, 3)
			var back, there []byte
			go func() { _, err := c.Write(data); c.CloseWrite(); done <- err }()
			go func() { var err error; there, err = io.ReadAll(w); w.Write(there); w.Close(); done <- err }()
			go func() { var err error; back, err = io.ReadAll(c); done <- err }()
			for range 3 {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("stuck ", c.Stats(), len(there), len(back))
				}
			}
			t.Log(len(there), len(back), bytes.Equal(there, data), bytes.Equal(back, data), time.Since(t0))
			t0 = time.Now()
			c.Close()
			t.Log("close", time.Since(t0))
		})
	}
}
