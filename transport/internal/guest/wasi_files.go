package guest

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/tetratelabs/wazero/api"
)

// WASI preview 1 flags of path_open, and the rights that say what for.
const (
	openCreate    = 1 << 0
	openDirectory = 1 << 1
	openExclusive = 1 << 2
	openTruncate  = 1 << 3

	rightRead  = 1 << 1
	rightWrite = 1 << 6
)

// fileFuncs are the WASI functions on files. A module has none but its
// configuration and, if granted, its state directory.
var fileFuncs = slices.Concat([]hostFunc{
	wasiFunc("fd_prestat_get", fdPrestatGet, i32, i32),
	wasiFunc("fd_prestat_dir_name", fdPrestatDirName, i32, i32, i32),
	wasiFunc("fd_filestat_get", fdFilestatGet, i32, i32),
	wasiFunc("fd_filestat_set_size", fdFilestatSetSize, i32, i64),
	wasiFunc("fd_seek", fdSeek, i32, i64, i32, i32),
	wasiFunc("fd_tell", fdTell, i32, i32),
	wasiFunc("fd_pread", fdPread, i32, i32, i32, i64, i32),
	wasiFunc("fd_pwrite", fdPwrite, i32, i32, i32, i64, i32),
	wasiFunc("fd_sync", fdSync, i32),
	wasiFunc("fd_datasync", fdSync, i32),
	wasiFunc("fd_readdir", fdReaddir, i32, i32, i32, i64, i32),
	wasiFunc("path_open", pathOpen, i32, i32, i32, i32, i32, i64, i64, i32, i32),
	wasiFunc("path_filestat_get", pathFilestatGet, i32, i32, i32, i32, i32),
	wasiFunc("path_create_directory", pathCreateDirectory, i32, i32, i32),
	wasiFunc("path_remove_directory", pathRemove, i32, i32, i32),
	wasiFunc("path_unlink_file", pathRemove, i32, i32, i32),
	wasiFunc("path_rename", pathRename, i32, i32, i32, i32, i32, i32),
}, unsupported(map[string][]api.ValueType{
	"fd_advise":               {i32, i64, i64, i32},
	"fd_allocate":             {i32, i64, i64},
	"fd_filestat_set_times":   {i32, i64, i64, i32},
	"path_filestat_set_times": {i32, i32, i32, i32, i64, i64, i32},
	"path_link":               {i32, i32, i32, i32, i32, i32, i32},
	"path_readlink":           {i32, i32, i32, i32, i32, i32},
	"path_symlink":            {i32, i32, i32, i32, i32},
}))

// unsupported makes functions that exist, so that a module which links them
// runs, and refuse: no transport needs links or file times.
func unsupported(names map[string][]api.ValueType) (fs []hostFunc) {
	for name, params := range names {
		fs = append(fs, wasiFunc(name, func(*call, []uint64) errno { return eNotsup }, params...))
	}
	return fs
}

// file returns the open file behind a descriptor.
func (c *call) file(fd uint64) (*file, errno) {
	d := c.in.fds.get(uint32(fd))
	switch {
	case d == nil:
		return nil, eBadf
	case d.file == nil:
		return nil, eSpipe
	}
	return d.file, eSuccess
}

// maxPath is how long a path may be, in bytes (POSIX PATH_MAX on Linux).
const maxPath = 4096

// path returns the directory and the resolved path that a call names.
func (c *call) path(fd, ptr, n uint64) (*tree, string, errno) {
	f, e := c.file(fd)
	if e != eSuccess {
		return nil, "", e
	}
	if n > maxPath {
		return nil, "", eNametoolong
	}
	text, e := c.text(ptr, n)
	if e != eSuccess {
		return nil, "", e
	}
	name, e := f.resolve(text)
	return f.tree, name, e
}

// writablePath is path for a change, which only a state directory allows.
func (c *call) writablePath(fd, ptr, n uint64) (*tree, string, errno) {
	t, name, e := c.path(fd, ptr, n)
	if e == eSuccess && t.root == nil {
		e = eAcces
	}
	if e != eSuccess {
		return nil, "", e
	}
	return t, name, eSuccess
}

// fd_prestat_get(fd, prestat)
func fdPrestatGet(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil || d.file == nil || !d.file.preopen {
		return eBadf
	}
	b, e := c.zero(a[1], 8) // tag 0: a directory
	if e != eSuccess {
		return e
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(d.file.tree.name)))
	return eSuccess
}

// fd_prestat_dir_name(fd, path, path_len)
func fdPrestatDirName(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil || d.file == nil || !d.file.preopen {
		return eBadf
	}
	b, e := c.bytes(a[1], a[2])
	if e != eSuccess {
		return e
	}
	if len(b) < len(d.file.tree.name) {
		return eNametoolong
	}
	copy(b, d.file.tree.name)
	return eSuccess
}

// putStat writes a WASI filestat.
func (c *call) putStat(ptr uint64, kind uint8, info fs.FileInfo) errno {
	b, e := c.zero(ptr, 64)
	if e != eSuccess {
		return e
	}
	b[16] = kind
	if info == nil {
		return eSuccess
	}
	ns := uint64(info.ModTime().UnixNano())
	if info.ModTime().IsZero() {
		ns = 0
	}
	binary.LittleEndian.PutUint64(b[8:], inode(info.Name()))
	binary.LittleEndian.PutUint64(b[24:], 1)
	binary.LittleEndian.PutUint64(b[32:], uint64(info.Size()))
	for at := 40; at < 64; at += 8 { // access, change and creation are the same
		binary.LittleEndian.PutUint64(b[at:], ns)
	}
	return eSuccess
}

// inode makes up a number: the real one would say something about the host.
func inode(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

func typeOf(m fs.FileMode) uint8 {
	switch {
	case m.IsDir():
		return typeDirectory
	case m.IsRegular():
		return typeRegular
	}
	return typeUnknown
}

// fd_filestat_get(fd, filestat)
func fdFilestatGet(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	if d.file == nil {
		return c.putStat(a[1], d.fileType(), nil)
	}
	info, err := d.file.stat()
	if err != nil {
		return toErrno(err)
	}
	return c.putStat(a[1], typeOf(info.Mode()), info)
}

// fd_filestat_set_size(fd, size)
func fdFilestatSetSize(c *call, a []uint64) errno {
	f, e := c.file(a[0])
	if e != eSuccess {
		return e
	}
	t, ok := f.f.(interface{ Truncate(int64) error })
	if !ok {
		return eBadf
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.grow(int64(a[1])) {
		return eNospc
	}
	return toErrno(t.Truncate(int64(a[1])))
}

// fd_seek(fd, offset, whence, newoffset)
func fdSeek(c *call, a []uint64) errno {
	f, e := c.file(a[0])
	if e != eSuccess {
		return e
	}
	if a[2] > io.SeekEnd { // WASI numbers them as Go does
		return eInval
	}
	at, err := f.seek(int64(a[1]), int(a[2]))
	if err != nil {
		return eInval
	}
	return c.put64(a[3], uint64(at))
}

// fd_tell(fd, offset)
func fdTell(c *call, a []uint64) errno {
	return fdSeek(c, []uint64{a[0], 0, io.SeekCurrent, a[1]})
}

// fd_pread(fd, iovs, iovs_len, offset, nread)
func fdPread(c *call, a []uint64) errno {
	return positioned(c, a, func(f *file, b []byte, at int64) (int, error) {
		r, ok := f.f.(io.ReaderAt)
		if !ok {
			return 0, fs.ErrInvalid
		}
		n, err := r.ReadAt(b, at)
		if err == io.EOF {
			err = nil
		}
		return n, err
	})
}

// fd_pwrite(fd, iovs, iovs_len, offset, nwritten)
func fdPwrite(c *call, a []uint64) errno {
	return positioned(c, a, func(f *file, b []byte, at int64) (int, error) {
		w, ok := f.f.(io.WriterAt)
		if !ok {
			return 0, fs.ErrInvalid
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if at < 0 || at > math.MaxInt64-int64(len(b)) {
			return 0, fs.ErrInvalid
		}
		if !f.grow(at + int64(len(b))) {
			return 0, syscall.ENOSPC
		}
		return w.WriteAt(b, at)
	})
}

func positioned(c *call, a []uint64, do func(f *file, b []byte, at int64) (int, error)) errno {
	f, e := c.file(a[0])
	if e != eSuccess {
		return e
	}
	bufs, e := c.iovecs(a[1], a[2])
	if e != eSuccess {
		return e
	}
	total := 0
	for _, b := range bufs {
		n, err := do(f, b, int64(a[3])+int64(total))
		total += n
		if err != nil {
			return toErrno(err)
		}
		if n < len(b) {
			break
		}
	}
	return c.put32(a[4], uint32(total))
}

// fd_sync(fd)
func fdSync(c *call, a []uint64) errno {
	f, e := c.file(a[0])
	if e != eSuccess {
		return e
	}
	if s, ok := f.f.(interface{ Sync() error }); ok {
		return toErrno(s.Sync())
	}
	return eSuccess
}

// fd_readdir(fd, buf, buf_len, cookie, bufused). The cookie of an entry is its
// place in the listing.
func fdReaddir(c *call, a []uint64) errno {
	f, e := c.file(a[0])
	if e != eSuccess {
		return e
	}
	if !f.isDir() {
		return eNotdir
	}
	out, e := c.bytes(a[1], a[2])
	if e != eSuccess {
		return e
	}
	entries, err := f.list(a[3] == 0)
	if err != nil {
		return toErrno(err)
	}
	used := 0
	for i := a[3]; i < uint64(len(entries)) && used < len(out); i++ {
		name := entries[i].Name()
		var head [24]byte
		binary.LittleEndian.PutUint64(head[0:], i+1)
		binary.LittleEndian.PutUint64(head[8:], inode(name))
		binary.LittleEndian.PutUint32(head[16:], uint32(len(name)))
		head[20] = typeOf(entries[i].Type())
		// An entry that is cut off tells the module to come back with more room.
		used += copy(out[used:], append(head[:], name...))
	}
	return c.put32(a[4], uint32(used))
}

// path_open(dirfd, dirflags, path, path_len, oflags, rights, inheriting, fdflags, fd)
func pathOpen(c *call, a []uint64) errno {
	t, name, e := c.path(a[0], a[2], a[3])
	if e != eSuccess {
		return e
	}
	f, err := t.open(name, openFlags(a[4], a[5]))
	if err != nil {
		return toErrno(err)
	}
	if a[4]&openDirectory != 0 && !f.isDir() {
		_ = f.close()
		return eNotdir
	}
	f.append = a[7]&flagAppend != 0
	fd, ok := c.in.fds.insert(&descriptor{file: f})
	if !ok {
		_ = f.close()
		return eMfile
	}
	return c.put32(a[8], uint32(fd))
}

// openFlags turns those of WASI into those of os.OpenFile.
func openFlags(oflags, rights uint64) (flags int) {
	if oflags&openDirectory != 0 {
		return os.O_RDONLY
	}
	switch {
	case rights&rightWrite == 0:
		flags = os.O_RDONLY
	case rights&rightRead == 0:
		flags = os.O_WRONLY
	default:
		flags = os.O_RDWR
	}
	if oflags&openCreate != 0 {
		flags |= os.O_CREATE
	}
	if oflags&openExclusive != 0 {
		flags |= os.O_EXCL
	}
	if oflags&openTruncate != 0 {
		flags |= os.O_TRUNC
	}
	return flags
}

// path_filestat_get(dirfd, flags, path, path_len, filestat)
func pathFilestatGet(c *call, a []uint64) errno {
	t, name, e := c.path(a[0], a[2], a[3])
	if e != eSuccess {
		return e
	}
	info, err := t.stat(name)
	if err != nil {
		return toErrno(err)
	}
	return c.putStat(a[4], typeOf(info.Mode()), info)
}

// path_create_directory(dirfd, path, path_len)
func pathCreateDirectory(c *call, a []uint64) errno {
	t, name, e := c.writablePath(a[0], a[1], a[2])
	if e != eSuccess {
		return e
	}
	if !t.create(name) {
		return eNospc
	}
	return toErrno(t.root.Mkdir(name, 0o700))
}

// path_remove_directory and path_unlink_file(dirfd, path, path_len)
func pathRemove(c *call, a []uint64) errno {
	t, name, e := c.writablePath(a[0], a[1], a[2])
	if e != eSuccess {
		return e
	}
	return toErrno(t.root.Remove(name))
}

// path_rename(old_dirfd, old_path, old_len, new_dirfd, new_path, new_len)
func pathRename(c *call, a []uint64) errno {
	from, old, e := c.writablePath(a[0], a[1], a[2])
	if e != eSuccess {
		return e
	}
	to, name, e := c.writablePath(a[3], a[4], a[5])
	if e != eSuccess {
		return e
	}
	if from != to {
		return eNotcapable
	}
	return toErrno(from.root.Rename(old, name))
}
