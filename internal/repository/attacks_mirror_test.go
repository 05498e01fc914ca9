//go:build unix

package repository_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/mirror"
	"waterproxy/internal/repository"
)

// serve returns the mirror that a web server is. answer reports whether it has answered;
// otherwise the files do.
func serve(t testing.TB, f files, patience time.Duration, answer func(w http.ResponseWriter, r *http.Request) bool) mirror.Mirror {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if answer != nil && answer(w, r) {
			return
		}
		data, ok := f[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(s.Close)
	m, err := mirror.Open(s.URL, mirror.Options{Patience: patience})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// is reports whether a request is for a file of a role, or "the module" for a module.
func is(r *http.Request, role string) bool {
	if role == "the module" {
		return strings.HasSuffix(r.URL.Path, ".obfs4.wasm")
	}
	return strings.HasSuffix(r.URL.Path, role+".json")
}

// everyFile are what a mirror is asked for.
var everyFile = []string{metadata.ROOT, metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS, "the module"}

// patient is a patience that no test outlasts.
const patient = time.Hour

// TestAttackEndlessData: a file without end, or larger than it may be, costs no more than
// its bound, and another mirror is used.
func TestAttackEndlessData(t *testing.T) {
	t.Parallel()
	for _, role := range everyFile {
		for how, length := range map[string]string{"chunks": "", "length": "99999999999999"} {
			t.Run(role+"/"+how, func(t *testing.T) {
				u, _, two := attacked(t)
				var sent atomic.Int64
				bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
					if !is(r, role) {
						return false
					}
					if length != "" {
						w.Header().Set("Content-Length", length)
					}
					for chunk := bytes.Repeat([]byte(" "), 32<<10); ; {
						n, err := w.Write(chunk)
						if sent.Add(int64(n)); err != nil {
							return true
						}
					}
				})
				u.refuses("larger than it may be", bad)
				if most := int64(32 << 20); sent.Load() > most { // with what the system's buffers take
					t.Errorf("%d bytes were sent", sent.Load())
				}
				u.take(bad, serve(t, two.files, patient, nil))
				u.still("2")
			})
		}
	}
	t.Run("header", func(t *testing.T) {
		u, _, two := attacked(t)
		bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X", strings.Repeat("x", 100_000))
			return false
		})
		u.refuses("header", bad)
		u.recovers(two)
	})
}

// TestAttackCompression: an answer that says that it is compressed is taken as it is.
func TestAttackCompression(t *testing.T) {
	u, _, two := attacked(t)
	bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
		return true
	})
	u.refuses("", bad)
	u.recovers(two)
}

// TestAttackMaliciousMirror: whatever a mirror does instead of an answer, the next one is
// used. It hangs, ends in the middle, sends a byte now and then, refuses, or leads astray.
func TestAttackMaliciousMirror(t *testing.T) {
	t.Parallel()
	ways := map[string]func(f files, w http.ResponseWriter, r *http.Request){
		"hangs": func(_ files, w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hangs in the middle": func(f files, w http.ResponseWriter, r *http.Request) {
			half(f, w, r)
			<-r.Context().Done()
		},
		"drips": func(_ files, w http.ResponseWriter, r *http.Request) {
			for tick := time.NewTicker(time.Millisecond); ; {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		},
		"ends in the middle": func(f files, w http.ResponseWriter, r *http.Request) {
			half(f, w, r)
			panic(http.ErrAbortHandler)
		},
		"ends at once":  func(files, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"fails":         func(_ files, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"sends a page":  func(_ files, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>Please log in</html>") },
		"sends nothing": func(files, http.ResponseWriter, *http.Request) {},
		"redirects": func(_ files, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		},
		"redirects to a file": func(_ files, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"redirects without a place":   func(_ files, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) },
		"answers with no status":      func(_ files, w http.ResponseWriter, _ *http.Request) { hijack(w, "HTTP/1.1 000 \r\n\r\n") },
		"answers with something else": func(_ files, w http.ResponseWriter, _ *http.Request) { hijack(w, "SSH-2.0-OpenSSH\r\n") },
		"switches protocols":          func(_ files, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSwitchingProtocols) },
		"sends a part":                func(_ files, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
	}
	for _, role := range everyFile {
		for how, do := range ways {
			t.Run(role+"/"+how, func(t *testing.T) {
				u, _, two := attacked(t)
				patience := patient
				if strings.HasPrefix(how, "hangs") || how == "drips" {
					patience = 20 * time.Millisecond
				}
				bad := serve(t, two.files, patience, func(w http.ResponseWriter, r *http.Request) bool {
					if is(r, role) {
						do(two.files, w, r)
					}
					return is(r, role)
				})
				u.refuses("", bad)
				u.take(bad, two.files)
				u.still("2")
			})
		}
	}
}

// half sends the first half of what a request asks for, with a length for all of it.
func half(f files, w http.ResponseWriter, r *http.Request) {
	data := f[strings.TrimPrefix(r.URL.Path, "/")]
	w.Header().Set("Content-Length", fmt.Sprint(len(data)+2))
	w.Write(data[:len(data)/2])
	http.NewResponseController(w).Flush()
}

func hijack(w http.ResponseWriter, answer string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		io.WriteString(conn, answer)
		conn.Close()
	}
}

// deadline is a context whose end is only announced.
type deadline struct {
	context.Context
	at time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }

// TestAttackSlowRetrieval: a mirror that is as slow as patience allows does not use up the
// time that a look has: the next mirror has a share of it.
func TestAttackSlowRetrieval(t *testing.T) {
	t.Parallel()
	for _, role := range everyFile {
		t.Run(role, func(t *testing.T) {
			u, _, two := attacked(t)
			var asked atomic.Int64
			bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
				if is(r, role) {
					asked.Add(1)
					half(two.files, w, r)
					<-r.Context().Done()
				}
				return is(r, role)
			})
			two.add("plain", "2")
			two.publish()
			o := u.o
			o.Mirrors = []mirror.Mirror{bad, two.files}
			ctx := deadline{t.Context(), time.Now().Add(500 * time.Millisecond)}
			if _, err := u.store.Update(ctx, o); err != nil {
				t.Fatal(err)
			}
			u.accept()
			u.still("2")
			if asked.Load() > 1 {
				t.Errorf("the slow mirror was asked %d times", asked.Load())
			}
		})
	}
}

// TestAttackPoisonedBeginning: a mirror that sends a wrong beginning, and then ends, does
// not spoil what another mirror sends, at once or at the next look.
func TestAttackPoisonedBeginning(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"wrong", "longer", "whole"} {
		t.Run(how, func(t *testing.T) {
			u, _, two := attacked(t)
			module := content("obfs4", "2")
			bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
				if !is(r, "the module") {
					return false
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(module)))
				switch how {
				case "wrong":
					w.Write([]byte("evil"))
				case "longer":
					w.Write([]byte("evil" + module[4:len(module)-1]))
				case "whole":
					w.Write([]byte("evil" + module[4:]))
				}
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			good := serve(t, two.files, patient, nil)
			u.refuses("", bad)
			u.take(bad, good)
			u.still("2")
		})
	}
}

// TestAttackRange: an answer to the wish for the rest of a module that is not that rest
// costs one try, and the next one begins anew.
func TestAttackRange(t *testing.T) {
	t.Parallel()
	module := content("obfs4", "2")
	for how, lie := range map[string]func(w http.ResponseWriter, r *http.Request){
		"another part":          partial("bytes 0-16/17", module),
		"another place":         partial("bytes 9-16/17", module[9:]),
		"no place":              partial("", module[8:]),
		"a senseless one":       partial("bytes -1-99999999999999999999/x", module[8:]),
		"other bytes":           partial("bytes 8-16/17", "evil evil"),
		"more":                  partial("bytes 8-16/17", module[8:]+"evil"),
		"less":                  partial("bytes 8-16/17", module[8:9]),
		"the whole as the rest": partial("bytes 8-16/17", module),
		"no such range":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"several parts": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=b")
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, "--b\r\nContent-Range: bytes 8-16/17\r\n\r\n"+module[8:]+"\r\n--b--\r\n")
		},
	} {
		t.Run(how, func(t *testing.T) {
			u, _, two := attacked(t)
			two.files[targetFile("obfs4.wasm", module)] = []byte(module)
			cut := true
			m := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case !is(r, "the module"):
					return false
				case cut:
					w.Header().Set("Content-Length", fmt.Sprint(len(module)))
					io.WriteString(w, module[:8])
					http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				case r.Header.Get("Range") != "":
					lie(w, r)
					return true
				}
				return false
			})
			u.refuses("", m)
			cut = false
			if how == "less" { // as if the connection had ended: the next look goes on there
				u.refuses("", m)
			}
			u.take(m)
			u.still("2")
		})
	}
	t.Run("a part that nobody wanted", func(t *testing.T) {
		t.Parallel()
		for _, role := range everyFile {
			t.Run(role, func(t *testing.T) {
				u, _, two := attacked(t)
				bad := serve(t, two.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
					if is(r, role) {
						w.Header().Set("Content-Range", "bytes 0-4/5")
						w.WriteHeader(http.StatusPartialContent)
						w.Write(two.files[strings.TrimPrefix(r.URL.Path, "/")])
					}
					return is(r, role)
				})
				u.refuses("206", bad)
				u.recovers(two)
			})
		}
	})
}

// partial answers with a part of a file.
func partial(place, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		if place != "" {
			w.Header().Set("Content-Range", place)
		}
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, body)
	}
}

// TestAttackTargetSize: a module that has another size than was signed is refused.
func TestAttackTargetSize(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int64{"one byte more": 18, "one byte less": 16, "none": 0, "negative": -1, "too large": 64<<20 + 1, "far too large": 1 << 62} {
		t.Run(name, func(t *testing.T) {
			u, _, two := attacked(t)
			two.targets.Signed.Targets["obfs4.wasm"].Length = length
			two.publish()
			for _, m := range []mirror.Mirror{two.files, serve(t, two.files, patient, nil)} {
				if err := u.update(m); err == nil && (length == 16 || length == 18) {
					t.Error("it was taken")
				}
				u.still("1")
				u.onlyVerified()
			}
		})
	}
}

// TestAttackLocalMirror: a directory or a tar file that somebody hands over is trusted no
// more than a server.
func TestAttackLocalMirror(t *testing.T) {
	t.Parallel()
	for _, role := range everyFile {
		for how, place := range map[string]func(file string) error{
			"FIFO":         func(file string) error { return syscall.Mkfifo(file, 0o600) },
			"folder":       func(file string) error { return os.Mkdir(file, 0o700) },
			"link to zero": func(file string) error { return os.Symlink("/dev/zero", file) },
			"link to link": func(file string) error { return os.Symlink(file, file) },
			"huge": func(file string) error {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					return err
				}
				return os.Truncate(file, 1<<40)
			},
		} {
			t.Run(role+"/"+how, func(t *testing.T) {
				u, _, two := attacked(t)
				if role == metadata.ROOT {
					two.rotate(nil)
					two.publish()
				}
				dir := tempDir(t)
				two.save(dir)
				pattern := filepath.Join(dir, "*"+role+".json")
				if role == "the module" {
					pattern = filepath.Join(dir, "targets", "*.obfs4.wasm")
				}
				found, err := filepath.Glob(pattern)
				must(t, err)
				for _, file := range found {
					if filepath.Base(file) != "1.root.json" {
						must(t, os.Remove(file))
						must(t, place(file))
					}
				}
				m, err := mirror.Open(dir, mirror.Options{})
				must(t, err)
				u.refuses("", m)
				u.recovers(two)
			})
		}
	}
}

// TestAttackMirrorHoldsStore: while a mirror keeps a look waiting, what is here can be used,
// accepted, refused and rolled back.
func TestAttackMirrorHoldsStore(t *testing.T) {
	u, _, two := attacked(t)
	must(t, u.update(two.files)) // version 2 waits for its trial
	three := two.fork()
	three.add("obfs4", "3")
	three.publish()
	waiting := make(chan struct{})
	slow := serve(t, three.files, patient, func(w http.ResponseWriter, r *http.Request) bool {
		if is(r, "the module") {
			close(waiting)
			<-r.Context().Done()
			return true
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		o := u.o
		o.Mirrors = []mirror.Mirror{slow}
		_, err := repository.New(u.state).Update(ctx, o)
		ended <- err
	}()
	<-waiting
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.accept()
		u.still("2")
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("a start has to wait for the mirror")
	}
	cancel()
	<-ended
	<-done
	u.still("2")
	u.take(three.files)
	u.still("3")
}
