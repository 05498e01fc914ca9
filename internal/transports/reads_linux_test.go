package transports

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// opens returns a function that returns how often a file has been opened since it was
// last called.
func opens(t *testing.T, file string) func() int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		_, err = unix.InotifyAddWatch(fd, file, unix.IN_OPEN|unix.IN_CLOSE) // events of one kind in a row are merged
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() (n int) {
		buf := make([]byte, 64<<10)
		for {
			got, err := unix.Read(fd, buf)
			if err == unix.EAGAIN {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < got; at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:])) {
				if binary.NativeEndian.Uint32(buf[at+4:])&unix.IN_OPEN != 0 {
					n++
				}
			}
		}
	}
}

// A start reads the settings once, a late load once more, and a reload once.
func TestSettingsReadOnce(t *testing.T) {
	s, write := prepare(t)
	write("t.toml", "instances = 1")
	opened := opens(t, filepath.Join(s.catalog.Dir, "t.toml"))
	check := func(what string, want int) {
		t.Helper()
		if n := opened(); n != want {
			t.Errorf("%s: the settings are opened %d times, want %d", what, n, want)
		}
	}
	dialer(t, s, (&checks{}).options(true))
	check("a first start", 1)
	d := dialer(t, s, (&checks{}).options(true))
	check("a start that is remembered", 1)
	_, address := listen(t)
	if err := dial(t, d, address); err != nil {
		t.Fatal(err)
	}
	check("its first connection", 1)
	if s.entries()[1].reload(t.Context()) {
		t.Error("something has changed")
	}
	check("a reload", 1)
}

// A look for changes opens nothing, whether or not the transport has been used.
func TestWatchReadsNothing(t *testing.T) {
	s, write := prepare(t)
	write("t.toml", "instances = 1")
	dialer(t, s, (&checks{}).options(true))
	dialer(t, s, (&checks{}).options(true)) // is not loaded
	settings, module := opens(t, filepath.Join(s.catalog.Dir, "t.toml")), opens(t, filepath.Join(s.catalog.Dir, "t.wasm"))
	for _, e := range s.entries() {
		last := look{}
		for range 10 {
			var rested bool
			if last, rested = e.look(last); rested {
				t.Error("it has changed")
			}
		}
	}
	if n := settings() + module(); n > 0 {
		t.Errorf("files were opened %d times", n)
	}
	write("t.toml", "instances = 2")
	e := s.entries()[0]
	changed, rested := e.look(look{})
	if _, again := e.look(changed); rested || !again {
		t.Errorf("a change is at rest after one look: %v, and after two: %v", rested, again)
	}
}
