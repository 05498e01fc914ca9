package guest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"waterproxy/transport/internal/stream"
)

// stateFD is the descriptor of the state directory: one of the notes comes before it.
const stateFD = 4

// stateful gives a call's instance a state directory.
func stateful(t *testing.T, q *Quota) (*call, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	c := newCall(t, stream.Posix)
	fd, _ := c.in.fds.insert(&descriptor{file: &file{tree: &tree{name: "/state", root: root, quota: q}, name: ".", preopen: true}})
	if fd != stateFD {
		t.Fatalf("the state directory is descriptor %d", fd)
	}
	return c, dir
}

// wasi calls a function of WASI.
func (c *call) wasi(t *testing.T, name string, args ...uint64) errno {
	t.Helper()
	all := hostModules["wasi_snapshot_preview1"]
	i := slices.IndexFunc(all, func(f hostFunc) bool { return f.name == name })
	if i < 0 || len(all[i].params) != len(args) {
		t.Fatalf("%s with %d arguments", name, len(args))
	}
	stack := slices.Clone(args)
	all[i].call(c, stack)
	return errno(stack[0])
}

// create makes a file and returns its descriptor.
func (c *call) create(t *testing.T, name string) (uint64, errno) {
	t.Helper()
	e := c.wasi(t, "path_open", stateFD, 0, c.put(1024, []byte(name)), uint64(len(name)), openCreate, rightRead|rightWrite, 0, 0, 2048)
	b := c.got(2048, 4)
	return uint64(b[0]) | uint64(b[1])<<8, e
}

// write writes so many bytes; at is a place, or -1 for where the file is.
func (c *call) write(t *testing.T, fd, n uint64, at int64) errno {
	t.Helper()
	c.put(1024, []byte{0, 16, 0, 0, byte(n), byte(n >> 8), 0, 0})
	if at >= 0 {
		return c.wasi(t, "fd_pwrite", fd, 1024, 1, uint64(at), 2048)
	}
	return c.wasi(t, "fd_write", fd, 1024, 1, 2048)
}

// TestQuota: files grow as far as they may, in whatever way, and what is removed makes room.
func TestQuota(t *testing.T) {
	q := &Quota{Bytes: 10_000, Files: 3}
	c, dir := stateful(t, q)
	if err := os.WriteFile(filepath.Join(dir, "old"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want errno) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	a, e := c.create(t, "a")
	check("create a", e, eSuccess)
	check("write", c.write(t, a, 4000, -1), eSuccess)
	check("write over it", c.write(t, a, 4000, 0), eSuccess)
	check("write at its end", c.write(t, a, 4000, 4000), eSuccess)
	check("write beyond", c.write(t, a, 1001, 8000), eNospc)
	check("write far away", c.write(t, a, 1, 1<<40), eNospc)
	check("write where no place is", c.write(t, a, 10, 1<<63-5), eInval)
	check("truncate to more", c.wasi(t, "fd_filestat_set_size", a, 9001), eNospc)
	check("truncate to all", c.wasi(t, "fd_filestat_set_size", a, 9000), eSuccess)
	check("one byte more", c.write(t, a, 1, 9000), eNospc)
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Size() != 9000 {
		t.Errorf("a is %v, %v", info, err)
	}
	b, e := c.create(t, "b")
	check("create b", e, eSuccess)
	_, e = c.create(t, "c")
	check("create c", e, eNospc)
	check("make a directory", c.wasi(t, "path_create_directory", stateFD, c.put(1024, []byte("d")), 1), eNospc)
	again, e := c.create(t, "a")
	check("open a again", e, eSuccess)

	check("remove a", c.wasi(t, "path_unlink_file", stateFD, c.put(1024, []byte("a")), 1), eSuccess)
	q.counted = q.counted.Add(-2 * recount)
	check("write to b while a is open", c.write(t, b, 9000, -1), eNospc)
	check("close a", c.wasi(t, "fd_close", a), eSuccess)
	check("close a again", c.wasi(t, "fd_close", again), eSuccess)
	q.counted = q.counted.Add(-2 * recount)
	check("write to b", c.write(t, b, 9000, -1), eSuccess)
	_, e = c.create(t, "c")
	check("create c after that", e, eSuccess)
	if time.Since(q.counted) > time.Minute {
		t.Error("it has not been counted again")
	}
}
